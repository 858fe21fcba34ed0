"""Golden vectors of the shipped weights, for `maskmend doctor`: patches of the sample, and what PyTorch says of them.

    python benchmarks/quality/golden.py            # every shipped set
    python benchmarks/quality/golden.py bpr-small

Patches are rounded to grey levels, so that they can be kept as bytes. Probabilities are those of the network itself, from
the safetensors file, in float32 on one thread.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskmend.models import list_weights, load_refiner, resolve_weights
from maskmend.models.self_test import Golden, write_golden
from maskmend.models.zoo import Weights
from maskmend.patcher import Rle, extract_patches
from maskmend.patcher.crops import MEAN, STD
from maskmend.patcher.images import load_image

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
LARGEST = 3
"""The instance that patches are of: this one in the order of size, so that its boundary is long."""


def cut(weights: Weights) -> NDArray[np.uint8]:
    """Patches of one instance of the sample: two along the boundary, or one whole instance."""
    records = json.loads((SAMPLES / "coarse.json").read_text())
    masks = [Rle.from_coco(record["segmentation"]) for record in records]
    number = sorted(range(len(masks)), key=lambda n: (-masks[n].area, n))[LARGEST]
    image = load_image(SAMPLES / "images" / records[number]["file_name"])
    manifest = weights.manifest
    boxes = load_refiner(weights=weights.onnx_path, runtime="torch", threads=1).boxes(masks[number], 0.25, tiles=False)
    chosen = boxes[:: max(1, len(boxes) // 2)][: 2 if manifest.refiner == "bpr" else 1]
    patches = extract_patches(image, masks[number], chosen, size=manifest.input_size, padding=manifest.padding)
    std, mean = (np.array(values, np.float32)[:, None, None] for values in (STD, MEAN))
    kept = np.empty(patches.shape, np.uint8)
    kept[:, :3] = np.rint(patches[:, :3] * std + mean).clip(0, 255)
    kept[:, 3] = patches[:, 3] > 0
    return kept


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="*", help="names or paths; every shipped set if left out")
    names = parser.parse_args().weights
    for weights in [resolve_weights(name) for name in names] or list_weights():
        patches = cut(weights)
        network = load_refiner(weights=weights.onnx_path, runtime="torch", threads=1)
        probabilities = network.forward(Golden(patches, np.zeros(0, np.float32)).inputs)
        file = write_golden(weights, patches, probabilities)
        inside = float((probabilities > 0.5).mean())
        print(f"{file}: {len(patches)} patches, {100 * inside:.0f} % inside, {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
