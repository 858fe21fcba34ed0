"""Photographs, silhouettes and whole annotated images that training scenes are made of.

Reads folders laid out as `FOLDER/images/*` and `FOLDER/instances.json` (COCO). Only the asked-for side of the split is
ever opened: a validation image is not used for training, not even as a texture.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.models.training.splits import is_validation
from maskmend.patcher import as_rle
from maskmend.patcher.errors import JobError

Split = Literal["train", "val"]


@dataclass(frozen=True)
class Cutout:
    """One object with its pixels: `image` uint8 [h, w, 3] RGB and `mask` uint8 [h, w] (0 or 1), with a margin."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


@dataclass(frozen=True)
class Annotated:
    """A photograph uint8 [H, W, 3] RGB with its instances, and whether their edges are exact to a pixel."""

    image: NDArray[np.uint8]
    masks: list[NDArray[np.bool_]]
    exact: bool


class Sources:
    """Everything a composer draws from, held in memory (about 150 MB for 100 COCO and 60 nuclei images).

    Args:
        data: folder that holds `coco-cc` and `nuclei`.
        split: which side of the hash split to read.

    Raises:
        JobError: a folder is missing.
    """

    def __init__(self, data: Path, split: Split) -> None:
        coco = _read(data / "coco-cc", split)
        nuclei = _read(data / "nuclei", split)
        self.photographs = [image for image, _ in coco]
        self.annotated = [Annotated(image, masks, exact=False) for image, masks in coco]
        self.annotated += [Annotated(image, masks, exact=True) for image, masks in nuclei]
        self.cutouts = [
            _cutout(image, mask) for image, masks in coco for mask in masks if np.count_nonzero(mask) >= 1500
        ]
        self.silhouettes = [
            _cutout(image, mask).mask for image, masks in nuclei for mask in masks if np.count_nonzero(mask) >= 120
        ]


def _read(folder: Path, split: Split) -> list[tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]]:
    file = folder / "instances.json"
    if not file.is_file():
        raise JobError(f"{file} is missing; --data must hold coco-cc and nuclei", field="data")
    coco = json.loads(file.read_text())
    by_image: dict[int, list[dict[str, object]]] = {}
    for annotation in coco["annotations"]:
        if not annotation["iscrowd"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
    found = []
    for record in sorted(coco["images"], key=lambda r: r["id"]):
        if is_validation(record["id"]) != (split == "val"):
            continue
        bgr = cv2.imread(str(folder / "images" / record["file_name"]), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if bgr is None:
            raise JobError(f"{record['file_name']} in {folder} cannot be read", field="data")
        image = np.ascontiguousarray(bgr[:, :, ::-1])
        masks = [
            as_rle(a["segmentation"], height=record["height"], width=record["width"]).to_dense()
            for a in by_image.get(record["id"], [])
        ]
        found.append((image.astype(np.uint8), masks))
    return found


def _cutout(image: NDArray[np.uint8], mask: NDArray[np.bool_], margin: int = 4) -> Cutout:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, y1 = max(rows[0] - margin, 0), rows[-1] + 1 + margin
    x0, x1 = max(columns[0] - margin, 0), columns[-1] + 1 + margin
    return Cutout(image[y0:y1, x0:x1].copy(), mask[y0:y1, x0:x1].astype(np.uint8))
