"""The masks that other libraries hold in memory: read as they are, given back in the form they came in.

    from maskmend.clients import Refiner
    from maskmend.clients.adapters import like

    refined = like(detections, Refiner().refine("cat.jpg", detections).rles)

Objects are known by their attributes. No library is imported to recognise its objects, none has to be installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Final

from maskmend.clients.adapters import arrays, detectron2, records, supervision, torchvision, transformers, ultralytics
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.errors import MaskError

__all__ = ["like", "masks_of"]

_LIBRARIES: Final = (detectron2, ultralytics, transformers, torchvision, supervision)


def masks_of(masks: Any) -> Sequence[Any]:
    """Masks one by one, whatever they came in.

    Args:
        masks: one of

            - bool, uint8 or float [N, H, W], [N, 1, H, W] or [H, W], NumPy array or tensor; floats are probabilities,
              cut at 0.5, whole numbers are of two values, such as 0 and 255;
            - a list of such arrays [H, W], `Rle`, COCO RLE dicts, COCO polygons (each instance a list of flat lists), or
              records that hold one under `segmentation` (COCO, SAM, SAM 2) or `mask` (pipelines of Transformers);
            - supervision `Detections`;
            - Ultralytics `Results`, with masks in the size of the photograph or of the network;
            - Detectron2 `Instances`, or the dict of a predictor;
            - the dict that a torchvision detection model gives for an image;
            - the dict that Transformers' post-processing gives for an image: instance or panoptic, map or binary maps;
            - a list of just one of the last four.

    Returns:
        One entry per instance, in order, each of a kind that `maskmend.patcher.as_rle` reads. Polygons need the size of the
        image there; all else brings its own.

    Raises:
        MaskError: none of these, boxes without masks, a map of labels, or the results of several images.
    """
    library = _library(masks)
    if library is not None:
        found: Sequence[Any] = library.masks(masks)
        return found
    if arrays.is_array(masks):
        return arrays.masks(masks)
    if isinstance(masks, (Mapping, Rle)):
        return records.masks([masks])
    if isinstance(masks, Sequence) and not isinstance(masks, (str, bytes)):
        return masks_of(masks[0]) if _holds_one(masks) else records.masks(masks)
    raise MaskError(f"masks are a {type(masks).__name__}; give an array or a list of masks", field="masks")


def like(original: Any, rles: Sequence[Any]) -> Any:
    """Refined masks in the form that the coarse ones came in.

    Args:
        original: what was refined; anything that `masks_of` reads. It stays as it is.
        rles: refined masks, one per instance, in order: COCO RLE dicts such as `RefineResult.rles`, or anything else that
            `maskmend.patcher.as_rle` reads without a size.

    Returns:
        A new object of the same type. Masks have the dtype of the original and lie on its device; those of Ultralytics
        have the size of the photograph. Boxes are drawn anew around the masks, from the left edge of the first pixel to the
        right edge of the last; a mask without pixels keeps its box. All else (ids, scores, classes, data) is that of the
        original, not copied. In a map of segment ids the earlier segment takes a pixel that two share.

    Raises:
        MaskError: another number of masks, or another size, than the original has.
    """
    refined = [as_rle(rle, field=f"rles[{number}]") for number, rle in enumerate(rles)]
    library = _library(original)
    if library is not None:
        return library.like(original, refined)
    if arrays.is_array(original):
        return arrays.like(original, refined)
    if isinstance(original, (Mapping, Rle)):
        arrays.numbered(refined, 1)
        return records.one_like(original, refined[0])
    if isinstance(original, Sequence) and not isinstance(original, (str, bytes)):
        if _holds_one(original):
            made = [like(original[0], refined)]
            return tuple(made) if isinstance(original, tuple) else made
        return records.like(original, refined)
    raise MaskError(f"the original is a {type(original).__name__}; give what the masks came in", field="original")


def _library(value: Any) -> ModuleType | None:
    return next((library for library in _LIBRARIES if library.knows(value)), None)


def _holds_one(items: Sequence[Any]) -> bool:
    """Whether a list is the answer of a model to one image, as batches of one give it."""
    if not items or _library(items[0]) is None:
        return False
    if len(items) > 1:
        raise MaskError(f"masks are the results of {len(items)} images; give those of one", field="masks")
    return True
