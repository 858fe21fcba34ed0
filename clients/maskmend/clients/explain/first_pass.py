"""The first pass over one instance, as the engine makes it, and what became of it in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from maskmend.models.refiner import NetworkRefiner
from maskmend.patcher import Rle
from maskmend.patcher.boxes import Boxes
from maskmend.patcher.errors import MaskError, OptionError
from maskmend.patcher.guard import changed_pixels
from maskmend.service.engine import Engine, InstanceResult
from maskmend.service.options import EngineOptions

DENSE: Final = 1 - 2**-20
"""IoU that no two different boxes have: with this nothing is dropped."""


@dataclass(frozen=True, slots=True, eq=False)
class FirstPass:
    """One instance.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        coarse: its mask as it came.
        nms: overlap of boxes that was asked for.
        dense: int32 [M, 4] (x0, y0, x1, y1) in px, all boxes before any is dropped.
        boxes: int32 [N, 4], those looked at.
        probabilities: float32 [N, P, P], foreground, of each box, P its side in px.
        refined: after the first pass.
        result: after all passes and the guard.
        provenance: weights, runtime, options.
    """

    image: NDArray[np.uint8]
    coarse: Rle
    nms: float
    dense: Boxes
    boxes: Boxes
    probabilities: NDArray[np.float32]
    refined: Rle
    result: InstanceResult
    provenance: dict[str, str | int | float]

    @property
    def side(self) -> int:
        """Of a box in px."""
        return int(self.boxes[0, 2] - self.boxes[0, 0])

    def changed(self) -> NDArray[np.int64]:
        """Pixels of each box that the first pass changed, int64 [N]; those in several boxes count in each."""
        return np.array(
            [np.count_nonzero(self.coarse.crop(*box) != self.refined.crop(*box)) for box in self.boxes.tolist()],
            np.int64,
        )

    def choose(self, box: int | None, points: Sequence[tuple[int, int]] = ()) -> int:
        """The box to show in detail: the one asked for, or the most changed of those that hold all points.

        Raises:
            OptionError: there is no such box.
        """
        if box is not None and not 0 <= box < len(self.boxes):
            raise OptionError(f"--box is {box}; this instance has boxes 0 to {len(self.boxes) - 1}", field="box")
        holding = [n for n, each in enumerate(self.boxes.tolist()) if all(_inside(each, point) for point in points)]
        if box is None and holding:
            changed = self.changed()
            return max(holding, key=lambda n: (changed[n], -n))
        if box is None or box not in holding:
            where = "no box holds" if box is None else f"box {box} does not hold"
            several = " all of" if len(points) > 1 else ""
            raise OptionError(
                f"{where}{several} --point {' '.join(f'{x},{y}' for x, y in points[:4])}; boxes lie along the coarse "
                "mask's boundary, and --json lists them",
                field="point",
            )
        return box


def first_pass(image: NDArray[np.uint8], mask: Rle, refiner: NetworkRefiner, nms: float) -> FirstPass:
    """Refine one instance, and keep what its first pass looked at.

    Args:
        image: uint8 [H, W, 3] RGB.
        mask: of the image's size.
        refiner: from `load_refiner`.
        nms: overlap of boxes; see `EngineOptions`.

    Raises:
        ImageError: the image is not uint8 [H, W, 3].
        MaskError: the mask is of another size, empty or full.
        OptionError: `nms` is out of range.
    """
    once = Engine(refiner, EngineOptions(nms=nms, passes=1))
    whole = Engine(refiner, EngineOptions(nms=nms))
    result = whole.refine_image(image, [mask])[0]
    if mask.area in (0, mask.height * mask.width):
        raise MaskError(f"{result.abstained}: it has no boundary to look along; give another mask", field="mask")
    (work,) = once.propose(image, {0: mask})
    ((boxes, probabilities),) = work.votes
    return FirstPass(
        image=image,
        coarse=mask,
        nms=nms,
        dense=refiner.boxes(mask, DENSE),
        boxes=boxes,
        probabilities=probabilities,
        refined=work.refined,
        result=result,
        provenance=whole.provenance,
    )


def facts_of(first: FirstPass, chosen: int) -> dict[str, Any]:
    """What the pictures of all refiners have in common, as data; lengths in px, areas in pixels."""
    height, width = first.image.shape[:2]
    result = first.result
    return {
        "image": {"width": width, "height": height},
        "mask": {"bbox": list(first.coarse.bbox), "area": first.coarse.area},
        "boxes": {
            "side": first.side,
            "nms": first.nms,
            "dense": len(first.dense),
            "kept": len(first.boxes),
            "at": first.boxes.tolist(),
            "changed_pixels": first.changed().tolist(),
            "chosen": chosen,
        },
        "first_pass": {"changed_pixels": changed_pixels(first.coarse, first.refined)},
        "result": {
            "changed_pixels": result.changed_pixels,
            "patches": result.patches,
            "score": round(result.score, 6),
            "confidence": round(result.confidence, 6),
            "abstained": result.abstained,
            "undone": result.undone,
        },
        "provenance": first.provenance,
    }


def _inside(box: Sequence[int], point: tuple[int, int]) -> bool:
    return box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3]
