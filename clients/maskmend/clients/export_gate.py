"""What int8 is fitted to and judged by: real photographs with true masks, through the real engine.

Images are split in two by a hash of their id. Patches of one half calibrate; instances of the other are refined with the
float32 and the int8 network, and compared with the truth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmend.clients.coco import ImageFolder, read_coco
from maskmend.models.gate import TOLERANCE, Gate
from maskmend.models.refiner import NetworkRefiner
from maskmend.models.training.coarse import degrade
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.errors import JobError, WeightsError
from maskmend.patcher.images import load_image
from maskmend.patcher.metrics import boundary_f, iou
from maskmend.service import Engine

PATCHES = 512
"""To calibrate with, spread over the photographs."""
MOST_INSTANCES = 400
"""Judged, at most."""
_KINDS = ("rcnn28", "polygon", "warp")
_MARGIN = 8


class AccuracyError(WeightsError):
    """An export that refines worse than the weights it was made from."""

    code = "accuracy_lost"


@dataclass(frozen=True)
class Scene:
    """A photograph, the true masks of its instances, and coarse ones made from them."""

    photograph: Path
    truths: list[Rle]
    coarse: list[Rle]

    def image(self) -> NDArray[np.uint8]:
        """The photograph, uint8 [H, W, 3] RGB.

        Raises:
            ImageError: it cannot be read.
        """
        return load_image(self.photograph)


@dataclass(frozen=True)
class Judgement:
    """Mean IoU and boundary F at 1 px of the same instances, by the original and by the export.

    Attributes:
        instances: judged.
        changed: instances of these that the original changed.
        iou: means of both.
        f1: means of both.
    """

    instances: int
    changed: int
    iou: tuple[float, float]
    f1: tuple[float, float]

    @property
    def passed(self) -> bool:
        """Whether neither falls by more than `TOLERANCE`."""
        return self.record("").passed

    def record(self, data: str) -> Gate:
        """For the manifest of the export; `data` names the set."""
        figures = ((round(before, 5), round(after, 5)) for before, after in (self.iou, self.f1))
        return Gate(data=data, instances=self.instances, iou=next(figures), f1=next(figures))

    def __str__(self) -> str:
        return (
            f"{self.instances} held-out instances: mean IoU {self.iou[0]:.4f} -> {self.iou[1]:.4f}, "
            f"F@1 {self.f1[0]:.4f} -> {self.f1[1]:.4f}"
        )


def read_scenes(truth: Path, images: Path) -> tuple[list[Scene], list[Scene]]:
    """Scenes to calibrate with, and scenes held out: `all_scenes`, in turns.

    Args:
        truth: COCO instances file.
        images: folder of the photographs.

    Raises:
        JobError: fewer than two images with instances; otherwise as `all_scenes`.
    """
    scenes = all_scenes(truth, images)
    if len(scenes) < 2:
        raise JobError(
            f"{truth} has instances on {len(scenes)} photographs; calibration takes one half and is judged on the other, so "
            "two are the least, and a hundred are better",
            field="calibration",
        )
    return scenes[::2], scenes[1::2]


def all_scenes(truth: Path, images: Path, kind: str | None = None) -> list[Scene]:
    """Every photograph that has instances, in the order of a hash of its id.

    Args:
        truth: COCO instances file.
        images: folder of the photographs.
        kind: of the coarse masks, see `maskmend degrade`; None for several kinds in turns.

    Raises:
        ImageError: a photograph is missing, or its name leads out of the folder.
        JobError: not an instances file.
        MaskError: a mask cannot be read.
    """
    coco = read_coco(truth, field="calibration")
    if coco.is_results:
        raise JobError(f"{truth} is a result list; calibration needs a COCO instances file", field="calibration")
    if not images.is_dir():
        raise JobError(f"--images {images} is not a folder", field="images")
    folder = ImageFolder(images, coco.images)
    scenes = []
    for image_id, numbers in sorted(coco.by_image(), key=lambda group: _digest(str(group[0]))):
        record = coco.images.get(image_id)
        if record is None:
            raise JobError(f"{truth}: an annotation has an image_id that is not among the images", field="image_id")
        annotations = [coco.records[number] for number in numbers if not coco.records[number].get("iscrowd")]
        truths = [mask for annotation in annotations if (mask := _mask(annotation, record)).area]
        if truths:
            coarse = [
                _coarse(mask, f"{image_id}/{number}", kind or _KINDS[number % len(_KINDS)])
                for number, mask in enumerate(truths)
            ]
            scenes.append(Scene(folder.find(annotations[0]), truths, coarse))
    return scenes


def patches_of(refiner: NetworkRefiner, scenes: Sequence[Scene], most: int = PATCHES) -> NDArray[np.float32]:
    """Patches that the engine gives to the network, evenly from all scenes: float32 [N, 4, S, S], N at most `most`."""
    each = -(-most // len(scenes))
    taken: list[NDArray[np.float32]] = []
    for scene in scenes:
        listener = _Listener(refiner)
        Engine(listener).refine_image(scene.image(), scene.coarse)
        seen = np.concatenate(listener.seen) if listener.seen else np.zeros((0, 4, 1, 1), np.float32)
        if len(seen):
            taken.append(seen[np.linspace(0, len(seen) - 1, min(each, len(seen))).astype(int)])
    size = refiner.input_size
    return np.concatenate(taken)[:most] if taken else np.zeros((0, 4, size, size), np.float32)


def judge(
    original: NetworkRefiner, export: NetworkRefiner, scenes: Sequence[Scene], most: int = MOST_INSTANCES
) -> Judgement:
    """Refine held-out instances with both, the guard on as by default, and compare with the truth.

    No further photograph is begun once there are `most` instances.
    """
    engines = Engine(original), Engine(export)
    changed = 0
    scores: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for scene in scenes:
        if len(scores[0]) >= most:
            break
        image = scene.image()
        for engine, found in zip(engines, scores, strict=True):
            results = engine.refine_image(image, scene.coarse)
            if engine is engines[0]:
                changed += sum(result.changed_pixels > 0 for result in results)
            found += [_score(result.mask, mask) for result, mask in zip(results, scene.truths, strict=True)]
    before, after = (np.mean(found, axis=0) for found in scores)
    return Judgement(len(scores[0]), changed, (float(before[0]), float(after[0])), (float(before[1]), float(after[1])))


def check(judgement: Judgement) -> None:
    """Refuse an export that lost too much.

    Raises:
        AccuracyError: mean IoU or F@1 fell by more than `TOLERANCE`, or the original changed nothing to compare with.
    """
    if not judgement.changed:
        # The guard keeps coarse masks; were that so of all, noise would come out as good as the original.
        raise AccuracyError(
            f"the original leaves all {judgement.instances} held-out instances as they came, which says nothing of the "
            "export; nothing was written. Give more or fitter photographs",
            field="calibration",
        )
    if not judgement.passed:
        raise AccuracyError(
            f"the export refines worse than the original, by more than {TOLERANCE}: {judgement}; nothing was written. Give "
            "more or fitter photographs, or use fp16 or bf16",
            field="precision",
        )


class _Listener:
    """A refiner that keeps the patches it is given."""

    looks = None

    def __init__(self, refiner: NetworkRefiner) -> None:
        self.patch, self.input_size, self.padding = refiner.patch, refiner.input_size, refiner.padding
        self.provenance, self.calibration, self.boxes = refiner.provenance, refiner.calibration, refiner.boxes
        self._forward = refiner.forward
        self.seen: list[NDArray[np.float32]] = []

    def forward(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `NetworkRefiner.forward`."""
        self.seen.append(patches)
        return self._forward(patches)


def _mask(annotation: dict[str, Any], record: dict[str, Any]) -> Rle:
    return as_rle(
        annotation.get("segmentation"), height=record.get("height"), width=record.get("width"), field="segmentation"
    )


def _coarse(mask: Rle, key: str, kind: str) -> Rle:
    rng = np.random.default_rng(int(_digest(f"{kind}/{key}")[:16], 16))
    return Rle.from_dense(degrade(mask.to_dense(), kind, rng))


def _score(mask: Rle, truth: Rle) -> tuple[float, float]:
    """IoU and boundary F at 1 px, looked at no further than a margin round both masks."""
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in _boxes(mask, truth)])
    (x0, y0), (x1, y1) = boxes[:, :2].min(0) - _MARGIN, boxes[:, 2:].max(0) + _MARGIN
    box = max(int(x0), 0), max(int(y0), 0), min(int(x1), truth.width), min(int(y1), truth.height)
    ours, theirs = mask.crop(*box), truth.crop(*box)
    return iou(ours, theirs), boundary_f(ours, theirs, 1)


def _boxes(*masks: Rle) -> Iterator[tuple[int, int, int, int]]:
    yield from (mask.bbox for mask in masks if mask.area)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
