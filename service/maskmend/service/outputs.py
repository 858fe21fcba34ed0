"""From refined instances to what an answer holds, in the encoding asked for."""

from __future__ import annotations

from collections.abc import Sequence

from maskmend.patcher import Rle
from maskmend.patcher.displacement import max_displacement
from maskmend.patcher.mask_images import write_index_mask, write_mask
from maskmend.patcher.outlines import outlines
from maskmend.service.engine import InstanceResult
from maskmend.service.schema import Encoding, RefinedMask
from maskmend.service.text import to_base64


def describe(index: int, coarse: Rle, result: InstanceResult, encoding: Encoding, *, report: bool) -> RefinedMask:
    """One instance of an answer.

    Args:
        index: of the mask in the request.
        coarse: the mask as it came.
        result: what the engine made of it.
        encoding: of its mask; with `index_png` it is in the common picture, not here.
        report: say what changed.
    """
    mask = result.mask
    return RefinedMask(
        index=index,
        segmentation=mask.to_coco() if encoding == "rle" else outlines(mask) if encoding == "polygons" else None,
        png=to_base64(write_mask(mask)) if encoding == "png" else None,
        box=mask.bbox,
        area=mask.area,
        confidence=round(result.confidence, 6),
        score=round(result.score, 6),
        abstained=result.abstained,
        changed_pixels=result.changed_pixels if report else None,
        max_displacement_px=round(max_displacement(coarse, mask), 3) if report else None,
        undone=result.undone if report else None,
    )


def index_picture(masks: Sequence[Rle], height: int, width: int) -> str:
    """All masks in one PNG, base64; see `write_index_mask`."""
    return to_base64(write_index_mask(masks, height, width))
