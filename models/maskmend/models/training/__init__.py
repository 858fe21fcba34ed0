"""Training of the shipped networks: scenes, coarse-mask makers, the loop.

Importing this package imports neither torch nor a runtime: `maskmend degrade` uses `coarse` alone.
"""
