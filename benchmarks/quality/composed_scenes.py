"""Write composed scenes with exact masks as a COCO data set: OUTPUT/images/*.png and OUTPUT/instances.json.

    python benchmarks/quality/composed_scenes.py --data DATA --output runs/composed --count 40

The scenes are made of the VALIDATION side of the split, so nothing in them was trained on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from maskmend.models.training.composer import compose
from maskmend.models.training.sources import Sources
from maskmend.patcher import Rle

SEED = 515


def write_scenes(data: Path, output: Path, count: int, seed: int = SEED) -> Path:
    """Compose `count` scenes of 480x640 px and write them; return the annotation file."""
    sources = Sources(data, "val")
    (output / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        scene = compose(sources, np.random.default_rng((seed, number)), size=(480, 640))
        name = f"{number:06d}.png"
        cv2.imwrite(str(output / "images" / name), scene.image[:, :, ::-1])
        images.append({"id": number, "file_name": name, "height": 480, "width": 640})
        for mask in scene.masks:
            rle = Rle.from_dense(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "segmentation": rle.to_coco(),
                    "area": rle.area,
                    "bbox": [float(v) for v in rle.bbox],
                }
            )
    file = output / "instances.json"
    categories = [{"id": 1, "name": "object"}]
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with coco-cc and nuclei")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    file = write_scenes(arguments.data, arguments.output, arguments.count, arguments.seed)
    print(f"{file}: {arguments.count} scenes")


if __name__ == "__main__":
    main()
