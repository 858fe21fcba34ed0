"""Geometry of patches: masks as run lengths, boundary boxes, crops, reassembly. Knows nothing of networks.

Names are loaded when first asked for: whoever needs the exceptions alone does not wait for the compiled kernels.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from maskmend.patcher.reassembly import reassemble
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

_HOMES = {
    **dict.fromkeys(
        (
            "ImageError",
            "JobError",
            "MaskError",
            "MaskmendError",
            "OptionError",
            "RuntimeUnavailableError",
            "WeightsError",
        ),
        "errors",
    ),
    "Rle": "rle",
    "as_rle": "rle",
    "boundary_boxes": "boxes",
    "boundary_pixels": "boundary",
    "extract_patches": "crops",
    "polygons_to_rle": "polygons",
    "reassemble": "reassembly",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    # Found at once the next time.
    globals()[name] = value
    return value
