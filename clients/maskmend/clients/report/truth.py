"""Ground truth of a report: which true instance each one is, and how well its masks fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from maskmend.clients.evaluate import MATCH_IOU, evaluate, rle_iou
from maskmend.clients.formats.base import Instance, MaskFile
from maskmend.clients.report.items import Item
from maskmend.clients.report.scores import SCORE_LABELS, format_score
from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError, RuntimeUnavailableError
from maskmend.patcher.metrics import instance_metrics

MEASURES: Final = ("iou", "f1px", "f3px", "mba")


@dataclass(frozen=True, slots=True)
class Fit:
    """A true mask, and `MEASURES` of the masks before and after against it."""

    mask: Rle
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def gain(self) -> float:
        """By how much IoU went up; below 0 where it went down."""
        return self.after[0] - self.before[0]


class Truth:
    """Finds the true instance of each instance, by the rule of `evaluate`.

    Within an image and a category, by falling score of the segmenter: the free true instance that overlaps most with the
    mask before, at IoU > 0.5. Images and categories are told by COCO's ids where both files have them, else by name.

    Args:
        masks: the opened ground truth; crowds in it are left out.
    """

    def __init__(self, masks: MaskFile) -> None:
        self._masks = masks
        self._free: dict[tuple[Any, ...], list[int]] = {}
        self._taken: set[int] = set()
        for number, instance in enumerate(masks.instances):
            if instance.refinable:
                for key in _keys(instance):
                    self._free.setdefault(key, []).append(number)

    def match(self, items: Sequence[Item], masks: Sequence[tuple[Rle, Rle]]) -> list[Fit | None]:
        """The fit of each item of one image; None where it has no true instance.

        Args:
            items: of one image.
            masks: of each item, before and after.

        Raises:
            MaskError: a true mask cannot be read, or has another size than the image.
        """
        found: list[Fit | None] = [None] * len(items)
        read: dict[int, Rle] = {}
        for n in sorted(range(len(items)), key=lambda n: -_score(items[n].instance)):
            before, after = masks[n]
            scored = []
            for number in self._candidates(items[n].instance):
                if number not in read:
                    read[number] = self._mask(number, before)
                scored.append((rle_iou(read[number], before), -number))
            if scored and max(scored)[0] > MATCH_IOU:
                number = -max(scored)[1]
                self._taken.add(number)
                found[n] = _fit(read[number], before, after)
        return found

    def _candidates(self, instance: Instance) -> list[int]:
        for key in _keys(instance):
            if key in self._free:
                return [number for number in self._free[key] if number not in self._taken]
        return []

    def _mask(self, number: int, like: Rle) -> Rle:
        mask = self._masks.mask(number, like.height, like.width)
        if (mask.height, mask.width) != (like.height, like.width):
            raise MaskError(
                f"ground truth {number} is {mask.width}x{mask.height} px but the mask is {like.width}x{like.height} px "
                "(width x height); both must be of the photograph's size",
                field="gt",
            )
        return mask


def totals_table(truth: Path, files: Sequence[Path], names: Sequence[str]) -> tuple[list[list[str]], str]:
    """Scores of `evaluate` as rows of text, the heading first; or none, and the reason why.

    Raises:
        JobError: a file cannot be used.
        MaskError: a mask in it is malformed.
    """
    try:
        scores = evaluate(truth, list(files)).as_dict()
    except RuntimeUnavailableError as error:
        return [], str(error)
    rows = [["", *names]]
    for key, label in SCORE_LABELS.items():
        rows.append([label, *(format_score(key, file[key], n) for n, file in enumerate(scores["files"]))])
    return rows, ""


def _keys(instance: Instance) -> list[tuple[Any, ...]]:
    """What instances of one image and category have in common, the surest first."""
    keys: list[tuple[Any, ...]] = [("name", instance.image, instance.label)]
    ids = instance.fields.get("image_id"), instance.fields.get("category_id")
    if all(isinstance(value, (int, str)) for value in ids):
        keys.insert(0, ("id", *ids))
    return keys


def _score(instance: Instance) -> float:
    return 1.0 if instance.score is None else instance.score


def _fit(true: Rle, before: Rle, after: Rle) -> Fit:
    measured: list[tuple[float, ...]] = []
    for mask in (before, after):
        if measured and after == before:
            measured.append(measured[0])
            continue
        # The widest band of mBA and the tolerance of F reach this far beyond the masks.
        margin = 4 + (true.height + true.width) // 300
        boxes = [rle.bbox for rle in (true, mask) if rle.area]
        x0, y0 = min(b[0] for b in boxes) - margin, min(b[1] for b in boxes) - margin
        x1, y1 = max(b[0] + b[2] for b in boxes) + margin, max(b[1] + b[3] for b in boxes) + margin
        region = max(x0, 0), max(y0, 0), min(x1, true.width), min(y1, true.height)
        values = instance_metrics(mask.crop(*region), true.crop(*region), frame=(true.height, true.width))
        measured.append(tuple(float(values[name]) for name in MEASURES))
    return Fit(true, measured[0], measured[1])
