"""`Refiner`: masks refined in this process, three lines of code away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskmend.clients.results import RefinedInstance, RefineResult
from maskmend.models import load_refiner
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.defaults import CAUTION, REACH
from maskmend.patcher.errors import MaskError
from maskmend.patcher.images import ExifPolicy, load_image
from maskmend.service import Engine, EngineOptions


class Refiner:
    """Refines the masks of any segmenter.

        from maskmend.clients import Refiner

        refiner = Refiner()
        result = refiner.refine("cat.jpg", masks)

    Args:
        refiner: `bpr`.
        weights: name of a shipped set or a path.
        runtime: `auto`, `openvino`, `onnx` or `torch`.
        precision: `fp32`, or `bf16` with openvino.
        nms: overlap of patches, 0.15 (fewest) to 0.55 (best quality).
        passes: refine again where the edge moved far, 1 to 5 times in all.
        guard: keep masks that are already right, and doubtful changes out.
        caution: 0 to 1, how likely an improvement must be for the guard to let it through.
        reach: farthest that the guard lets an edge move, in px.
        topology: have the guard keep masks in one piece: no specks, no pinholes, thin parts not cut.
        arbitrate: let no two instances take a pixel that their coarse masks did not share.
        batch_size: patches per call of the network; does not change the result.
        threads: of the network; None lets the runtime choose.
        exif_policy: `apply` or `ignore` the EXIF rotation of files and bytes.

    Raises:
        OptionError: an option is unknown or out of range.
        RuntimeUnavailableError: no runtime is installed.
        WeightsError: the weights are missing or damaged.
    """

    def __init__(
        self,
        refiner: str = "bpr",
        *,
        weights: str | Path = "bpr-small",
        runtime: str = "auto",
        precision: str = "fp32",
        nms: float = 0.25,
        passes: int = 3,
        guard: bool = True,
        caution: float = CAUTION,
        reach: int = REACH,
        topology: bool = True,
        arbitrate: bool = True,
        batch_size: int = 32,
        threads: int | None = None,
        exif_policy: ExifPolicy = "apply",
    ) -> None:
        network = load_refiner(refiner, weights=weights, runtime=runtime, precision=precision, threads=threads)
        options = EngineOptions(nms, passes, guard, caution, reach, topology, arbitrate)
        self._engine = Engine(network, options, batch_size=batch_size)
        self._exif = exif_policy

    @property
    def provenance(self) -> dict[str, str | int | float]:
        """What decides the result: weights and their SHA-256, runtime, precision, options."""
        return dict(self._engine.provenance)

    def refine(self, image: Any, masks: Any) -> RefineResult:
        """Refine the masks of one image.

        Args:
            image: path, encoded bytes, uint8 [H, W, 3] RGB array, or PIL image.
            masks: bool/uint8 [N, H, W] or [H, W] array; a list of [H, W] arrays, COCO RLE dicts, COCO polygons (each
                instance a list of flat lists) or SAM dicts (key `segmentation`); or supervision `Detections`.

        Returns:
            One instance per mask, in order.

        Raises:
            ImageError: the image cannot be read.
            MaskError: a mask cannot be read, or is of another size than the image.
        """
        picture = load_image(image, exif_policy=self._exif)
        height, width = picture.shape[:2]
        coarse = [
            as_rle(_unwrapped(mask), height=height, width=width, field=f"masks[{number}]")
            for number, mask in enumerate(_listed(masks))
        ]
        refined = self._engine.refine_image(picture, coarse)
        instances = [
            RefinedInstance(
                r.mask.to_coco(),
                r.mask.bbox,
                r.mask.area,
                r.confidence,
                r.score,
                r.abstained,
                r.changed_pixels,
                r.undone,
            )
            for r in refined
        ]
        return RefineResult(height, width, instances, self.provenance)


def _listed(masks: Any) -> Sequence[Any]:
    """Masks one by one, whatever they came in."""
    if hasattr(masks, "mask") and not isinstance(masks, (np.ndarray, Mapping)):
        if masks.mask is None:
            raise MaskError("these detections carry boxes only; masks are needed", field="masks")
        masks = masks.mask
    if isinstance(masks, np.ndarray):
        if masks.ndim == 2:
            return [masks]
        if masks.ndim == 3:
            return list(masks)
        raise MaskError(f"masks have shape {masks.shape}; give [N, H, W] or [H, W]", field="masks")
    if isinstance(masks, (Mapping, Rle)):
        return [masks]
    if isinstance(masks, Sequence) and not isinstance(masks, (str, bytes)):
        return masks
    raise MaskError(f"masks are a {type(masks).__name__}; give an array or a list of masks", field="masks")


def _unwrapped(mask: Any) -> Any:
    """The mask inside a SAM or COCO record."""
    if isinstance(mask, Mapping) and "segmentation" in mask and "counts" not in mask:
        return mask["segmentation"]
    return mask
