"""What `calibrate.py` fits on: instances with their truth, refined once for each coarse kind, without the guard."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from table import ground_truth

from maskmend.models.training.coarse import KINDS, degrade
from maskmend.models.training.composer import compose
from maskmend.models.training.sources import Sources
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.evidence import Evidence
from maskmend.patcher.guard import GuardOptions, examine
from maskmend.service import Engine

SAY = {"composed": 1.0, "nuclei": 1.0, "coco-cc": 0.25}
"""Weight of each set. COCO's polygons are off by 2 to 4 px: a right change often counts as wrong there."""
SETS = (*SAY, "davis")
SEED = 90_210


@dataclass
class Case:
    """One refined instance with its truth, all in the guard's region."""

    set: str
    kind: str
    evidence: Evidence
    truth: NDArray[np.uint8]
    beyond: int
    """Foreground pixels of the truth outside the region."""


def instances(
    name: str, data: Path, work: Path, every: int, scenes: int
) -> Iterator[tuple[NDArray[np.uint8], list[Rle]]]:
    """Images with their true masks."""
    if name == "composed":
        sources = Sources(data, "val")
        for number in range(scenes):
            rng = np.random.default_rng((SEED, number))
            side = int(np.exp(rng.uniform(*np.log([320, 900]))))
            scene = compose(sources, rng, size=(side * 3 // 4, side))
            yield scene.image, [Rle.from_dense(mask) for mask in scene.masks]
        return
    truth, images = ground_truth(name, data, work, every)
    coco = json.loads(truth.read_text())
    for record in coco["images"]:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        bgr = cv2.imread(str(images / record["file_name"]), flags)
        size = {"height": record["height"], "width": record["width"]}
        masks = [as_rle(a["segmentation"], **size) for a in coco["annotations"] if a["image_id"] == record["id"]]
        yield np.ascontiguousarray(bgr[:, :, ::-1]), masks


def cases(
    engine: Engine,
    name: str,
    found: Iterator[tuple[NDArray[np.uint8], list[Rle]]],
    most: int,
    care: str | None = None,
) -> Iterator[Case]:
    """Refine every instance once for each kind, without the guard; of those looked at with another care none."""
    options = GuardOptions()
    for number, (image, truths) in enumerate(found):
        rng = np.random.default_rng((SEED, number, 1))
        for kind in (*KINDS, "exact"):
            chosen = rng.permutation(len(truths))[:most]
            coarse = {int(n): Rle.from_dense(degrade(truths[n].to_dense(), kind, rng)) for n in chosen}
            coarse = {n: m for n, m in coarse.items() if 0 < m.area < m.height * m.width}
            for proposal in engine.propose(image, coarse):
                if care is not None and proposal.care != care:
                    continue
                truth = truths[proposal.index]
                seen = examine(image, proposal.coarse, proposal.refined, proposal.votes, options)
                crop = truth.crop(*seen.region)
                case = Case(name, kind, seen.evidence, crop, truth.area - int(crop.sum()))
                if iou(seen.evidence.before, case) > 0.5:
                    yield case


def iou(mask: NDArray[np.uint8], case: Case) -> float:
    """IoU of a mask, uint8 [h, w] in the region of a case, with its truth."""
    union = int(np.count_nonzero(mask | case.truth)) + case.beyond
    return np.count_nonzero(mask & case.truth) / union if union else 1.0
