"""Images with coarse masks to measure on: those of a COCO result list, and synthetic ones of any size and number.

A synthetic object is a blob in a colour of its own on coarse noise; its coarse mask is the same outline pushed off by a few
pixels and with few corners, so that there is something to repair and second looks happen as they do on photographs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle
from maskmend.patcher.polygons import polygons_to_rle


@dataclass(frozen=True)
class Scene:
    """A photograph on the disk and the coarse masks of its objects."""

    photograph: Path
    masks: list[Rle]


def from_results(results: Path, images: Path, limit: int | None = None) -> list[Scene]:
    """Photographs and masks of a COCO result list whose records carry `file_name` (`maskmend degrade` writes such).

    Args:
        results: the list.
        images: folder of the photographs.
        limit: most records to take from each photograph; None for all.
    """
    masks: dict[str, list[Rle]] = {}
    for record in json.loads(results.read_text()):
        masks.setdefault(str(record["file_name"]), []).append(Rle.from_coco(record["segmentation"]))
    return [Scene(images / name, found[:limit]) for name, found in masks.items()]


def synthetic(
    folder: Path, height: int, width: int, sizes: list[float], seed: int = 0, name: str = "synthetic.jpg"
) -> Scene:
    """Paint objects of the given sizes and write the photograph.

    Args:
        folder: where the photograph goes, as a JPEG file.
        height: of the frame, in px.
        width: of the frame, in px.
        sizes: mean diameter of each object, in px; at most half of the shorter side.
        seed: same seed, same scene.
        name: of the file.
    """
    rng = np.random.default_rng(seed)
    coarse_noise = rng.integers(60, 140, (height // 16 + 2, width // 16 + 2, 3)).astype(np.uint8)
    image = cv2.resize(coarse_noise, (width, height), interpolation=cv2.INTER_LINEAR)
    masks = []
    for size in sizes:
        margin = min(0.8 * size, 0.5 * min(height, width))
        centre = rng.uniform((margin, margin), (width - margin + 1e-6, height - margin + 1e-6))
        truth = _outline(rng, size, 720)
        colour = tuple(int(v) for v in rng.integers(150, 256, 3))
        cv2.fillPoly(image, [np.round(truth + centre).astype(np.int32)], colour)
        # A corner every 12 px or so, each off by a pixel or two: what a hurried human draws.
        corners = max(12, round(np.pi * size / 12))
        picked = truth[np.linspace(0, len(truth), corners, endpoint=False).astype(int)]
        moved = picked + centre + rng.normal(0, 1.5, picked.shape)
        masks.append(polygons_to_rle([moved.ravel().tolist()], height, width))
    photograph = folder / name
    if not cv2.imwrite(str(photograph), image, [cv2.IMWRITE_JPEG_QUALITY, 95]):
        raise SystemExit(f"{photograph} cannot be written")
    return Scene(photograph, masks)


def _outline(rng: np.random.Generator, size: float, points: int) -> NDArray[np.float64]:
    """A wavy closed curve round the origin, float64 [points, 2] as x, y; its length grows in proportion to `size`."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = np.full(points, size / 2)
    for wave in range(2, 9):
        radius += size * rng.normal(0, 0.08 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
