"""Refining where people annotate: an ML backend for Label Studio, a function for CVAT."""
