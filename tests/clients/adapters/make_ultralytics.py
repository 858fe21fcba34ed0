"""Make fixtures/ultralytics.json with the real library: results with masks at the size of the network.

    python tests/clients/adapters/make_ultralytics.py

The masks are shapes of our own; letterboxing, `Results`, and the masks in the size of the photograph are Ultralytics' own.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import ultralytics
from ultralytics.data.augment import LetterBox
from ultralytics.engine.results import Results
from ultralytics.utils import ops

from maskmend.patcher import Rle

FIXTURE = Path(__file__).parent / "fixtures" / "ultralytics.json"


def ellipses(height: int, width: int) -> np.ndarray:
    """Bool [3, H, W]: a large one, a small one, a ring."""
    rows, columns = np.indices((height, width))

    def inside(y: float, x: float, b: float, a: float) -> np.ndarray:
        return ((rows - y * height) / (b * height)) ** 2 + ((columns - x * width) / (a * width)) ** 2 < 1

    ring = inside(0.5, 0.75, 0.3, 0.2) & ~inside(0.5, 0.75, 0.15, 0.1)
    return np.stack([inside(0.4, 0.3, 0.35, 0.25), inside(0.85, 0.5, 0.1, 0.06), ring])


def results(height: int, width: int, network: tuple[int, int], auto: bool) -> Results:
    """Results as the predictor builds them: letterboxed masks, boxes in px of the photograph."""
    letterbox = LetterBox(new_shape=network, auto=auto, stride=32)
    masks = [letterbox(image=np.repeat(m[..., None] * np.uint8(255), 3, 2))[..., 0] for m in ellipses(height, width)]
    # Padding is grey: below one half once it is cut.
    data = torch.from_numpy(np.stack(masks) > 127).to(torch.uint8)
    boxes = torch.tensor([[1, 2, 30, 40, 0.9, 3], [5, 6, 7, 8, 0.5, 1], [0, 0, 9, 9, 0.25, 2]], dtype=torch.float32)
    return Results(np.zeros((height, width, 3), np.uint8), "cat.jpg", {n: f"c{n}" for n in range(4)}, boxes, data)


CASES = {
    "wide, padded to a square": (97, 150, (160, 160), False),
    "tall, padded to the stride": (213, 160, (160, 160), True),
    "larger than the network": (480, 641, (96, 96), False),
    "odd padding": (101, 77, (128, 128), False),
    "no padding": (64, 64, (64, 64), False),
}


def main() -> None:
    """Write the fixture."""
    cases = []
    for name, (height, width, network, auto) in CASES.items():
        made = results(height, width, network, auto)
        native = ops.scale_masks(made.masks.data[None].float(), (height, width))[0] > 0.5
        cases.append(
            {
                "name": name,
                "orig_shape": [height, width],
                "masks": [Rle.from_dense(mask).to_coco() for mask in made.masks.data.numpy()],
                "boxes": made.boxes.data.tolist(),
                "native": [Rle.from_dense(mask).to_coco() for mask in native.numpy()],
                "drawn": [Rle.from_dense(mask).to_coco() for mask in ellipses(height, width)],
            }
        )
    FIXTURE.write_text(json.dumps({"ultralytics": ultralytics.__version__, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
