"""Geometry of patches: masks as run lengths, boundary boxes, crops, reassembly. Knows nothing of networks."""

from __future__ import annotations

from maskmend.patcher.boundary import boundary_pixels
from maskmend.patcher.boxes import boundary_boxes
from maskmend.patcher.crops import extract_patches
from maskmend.patcher.errors import (
    ImageError,
    JobError,
    MaskError,
    MaskmendError,
    OptionError,
    RuntimeUnavailableError,
    WeightsError,
)
from maskmend.patcher.polygons import polygons_to_rle
from maskmend.patcher.reassemble import reassemble
from maskmend.patcher.rle import Rle, as_rle

__all__ = [
    "ImageError",
    "JobError",
    "MaskError",
    "MaskmendError",
    "OptionError",
    "Rle",
    "RuntimeUnavailableError",
    "WeightsError",
    "as_rle",
    "boundary_boxes",
    "boundary_pixels",
    "extract_patches",
    "polygons_to_rle",
    "reassemble",
]
