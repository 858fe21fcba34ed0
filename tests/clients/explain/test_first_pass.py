"""The first pass is the engine's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from explain_words import picture

from maskmend.clients.explain.first_pass import DENSE, first_pass
from maskmend.models import load_refiner
from maskmend.models.refiner import NetworkRefiner
from maskmend.patcher import Rle, boundary_boxes, boundary_pixels, extract_patches, reassemble
from maskmend.patcher.defaults import HOLD
from maskmend.patcher.field import fade
from maskmend.patcher.guard import hold
from maskmend.patcher.images import load_image


def test_the_first_pass_is_that_of_the_engine(one: tuple[Path, Path]) -> None:
    image, mask = load_image(one[0]), Rle.from_dense(picture(one[1])[:, :, 0])
    refiner = load_refiner("bpr")
    asked: list[np.ndarray] = []

    class Watched(NetworkRefiner):
        name = "bpr"
        boxes = refiner.boxes

        def __init__(self) -> None:
            self.patch, self.input_size, self.padding = refiner.patch, refiner.input_size, refiner.padding
            self.provenance, self.calibration = refiner.provenance, refiner.calibration

        def forward(self, patches: np.ndarray) -> np.ndarray:
            asked.append(patches.copy())  # memory that the engine uses again
            return refiner.forward(patches)

    found = first_pass(image, mask, Watched(), 0.4)
    boxes = refiner.boxes(mask, 0.4)
    assert np.array_equal(found.boxes, boxes)
    patches = extract_patches(image, mask, boxes, size=refiner.input_size, padding=refiner.padding)
    # The last call is that of the first pass alone; the engine's own first pass was the first call.
    assert np.array_equal(asked[0], patches)
    assert np.array_equal(asked[-1], patches)
    assert np.array_equal(found.probabilities, refiner.forward(patches))
    known = np.stack([2.0 * mask.crop(*box) - 1 for box in boxes.tolist()]).astype(np.float32)
    assert found.refined == reassemble(mask, boxes, fade(hold(found.probabilities, known, HOLD)))
    changed = mask.to_dense() != found.refined.to_dense()
    assert found.changed().tolist() == [np.count_nonzero(changed[y0:y1, x0:x1]) for x0, y0, x1, y1 in boxes.tolist()]


@pytest.mark.parametrize("patch", [2, 64, 1024])
def test_dense_boxes_are_one_for_each_boundary_pixel(patch: int) -> None:
    y, x = np.indices((90, 90))
    mask = Rle.from_dense(np.hypot(y - 40, x - 44) < 23)
    assert len(boundary_boxes(mask, patch=patch, nms=DENSE)) == len(boundary_pixels(mask)[0])
