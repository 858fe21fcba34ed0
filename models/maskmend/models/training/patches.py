"""From scenes to training crops: coarse masks, boxes, crops, in a stream that is the same for the same seed.

Crops are patches along the boundary, or whole instances brought to one size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.models.training.coarse import degrade
from maskmend.models.training.composer import Scene, compose
from maskmend.models.training.sources import Annotated, Sources
from maskmend.patcher import boundary_boxes
from maskmend.patcher.instance_boxes import instance_boxes

PATCH = 64
INSTANCE = 224
"""Side in px of the crop of an instance."""
UNSURE = 2
"""Value of a target pixel that no loss is taken on."""

Crop = Literal["patch", "instance"]
Patches = NDArray[np.uint8]
"""uint8 [N, S, S, 5], S = 64 + 2 * padding or 224: R, G, B, coarse mask (0/1), target (0, 1 or `UNSURE`)."""


@dataclass(frozen=True)
class PatchMix:
    """How training patches are drawn.

    Attributes:
        composed: share of scenes that are composed; the rest are annotated photographs.
        exact: of the annotated photographs, share drawn from those with exact masks.
        kinds: relative weight of each coarse-mask maker.
        per_instance: most patches taken of one instance and one coarse mask.
        padding: context around each patch in px.
        crop: `patch`, or `instance` for crops of whole instances.
    """

    composed: float
    exact: float
    kinds: Mapping[str, float]
    per_instance: int = 8
    padding: int = 0
    crop: Crop = "patch"

    @property
    def side(self) -> int:
        """Side of a crop in px, with its context."""
        return PATCH + 2 * self.padding if self.crop == "patch" else INSTANCE


def scene_patches(sources: Sources, mix: PatchMix, seed: int, index: int) -> Patches:
    """Patches of scene number `index` of the stream `seed`; the same arguments give the same patches.

    Returns:
        `Patches`, possibly of length 0.
    """
    rng = np.random.default_rng((seed, index))
    if rng.random() < mix.composed:
        scene, exact = compose(sources, rng), True
    else:
        scene, exact = _photograph(sources, mix, rng)
    kinds = list(mix.kinds)
    weights = np.array([mix.kinds[kind] for kind in kinds], dtype=np.float64)
    weights /= weights.sum()
    order = rng.permutation(len(scene.masks))[:12]
    found = []
    for i in order:
        for kind in rng.choice(kinds, min(2, len(kinds)), replace=False, p=weights):
            # A scene may be a part of a larger image, and its segmenter's cells larger than the scene alone tells.
            frame = int(max(scene.image.shape[:2]) * rng.choice([1.0, 1.0, 1.5, 2.0, 3.0]))
            coarse = degrade(scene.masks[i], str(kind), rng, frame=frame)
            cut = _instance_patches if mix.crop == "patch" else _instance_crops
            found.append(cut(scene.image, scene.masks[i], coarse, exact, mix, rng))
    return np.concatenate(found) if found else np.zeros((0, mix.side, mix.side, 5), np.uint8)


def stream(sources: Sources, mix: PatchMix, seed: int, start: int, step: int) -> Iterator[Patches]:
    """Patches of scenes `start`, `start + step`, ... without end."""
    index = start
    while True:
        yield scene_patches(sources, mix, seed, index)
        index += step


def _photograph(sources: Sources, mix: PatchMix, rng: np.random.Generator) -> tuple[Scene, bool]:
    exact = bool(rng.random() < mix.exact)
    choice = [a for a in sources.annotated if a.exact == exact and a.masks]
    photograph: Annotated = choice[int(rng.integers(len(choice)))]
    # Small objects are shown at several sizes; large photographs never larger than they are.
    scale = float(np.exp(rng.uniform(np.log(0.7), np.log(2.2)))) if exact else float(rng.uniform(0.6, 1.1))
    height, width = (int(side * scale) for side in photograph.image.shape[:2])
    if max(height, width) > 900:
        return Scene(photograph.image, photograph.masks), exact
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(photograph.image, (width, height), interpolation=way)
    few = rng.permutation(len(photograph.masks))[:12]
    masks = [cv2.resize(photograph.masks[i].astype(np.float32), (width, height), interpolation=way) > 0.5 for i in few]
    return Scene(np.asarray(image, np.uint8), [m for m in masks if np.count_nonzero(m) >= 60]), exact


def _instance_patches(
    image: NDArray[np.uint8],
    true: NDArray[np.bool_],
    coarse: NDArray[np.bool_],
    exact: bool,
    mix: PatchMix,
    rng: np.random.Generator,
) -> Patches:
    nms = float(rng.choice([0.15, 0.25, 0.4]))
    boxes = boundary_boxes(coarse, patch=PATCH, nms=nms, ties="raster")
    boxes = boxes[rng.permutation(len(boxes))[: mix.per_instance]]
    target = _target(true, exact)
    side = PATCH + 2 * mix.padding
    out = np.empty((len(boxes), side, side, 5), np.uint8)
    for n, (x0, y0, _, _) in enumerate(boxes):
        out[n] = _cut(image, coarse, target, x0 - mix.padding, y0 - mix.padding, side)
    return out


def _cut(
    image: NDArray[np.uint8], coarse: NDArray[np.bool_], target: NDArray[np.uint8], left: int, top: int, side: int
) -> NDArray[np.uint8]:
    """A square of image, coarse mask and target, uint8 [side, side, 5].

    As `extract_patches` does: outside the frame the image repeats its border, the mask is background.
    """
    height, width = target.shape
    rows, columns = (np.arange(start, start + side) for start in (top, left))
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None, :]
    near = np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)[None, :]
    masks = np.stack([coarse[near] & inside, np.where(inside, target[near], UNSURE)], axis=-1)
    return np.concatenate([image[near], masks.astype(np.uint8)], axis=-1)


def _target(true: NDArray[np.bool_], exact: bool) -> NDArray[np.uint8]:
    """What a network should say; near the edge of masks that are not exact, nothing."""
    target = true.astype(np.uint8)
    if not exact:
        kernel = np.ones((5, 5), np.uint8)
        target = np.where(cv2.dilate(target, kernel) != cv2.erode(target, kernel), np.uint8(UNSURE), target)
    return target


def _instance_crops(
    image: NDArray[np.uint8],
    true: NDArray[np.bool_],
    coarse: NDArray[np.bool_],
    exact: bool,
    mix: PatchMix,
    rng: np.random.Generator,
) -> Patches:
    """At most two crops, as `instance_boxes` has them: the instance with a margin that varies, or tiles of a large one."""
    boxes = instance_boxes(coarse, tile=INSTANCE, nms=0.25)
    boxes = boxes[rng.permutation(len(boxes))[:2]]
    target = _target(true, exact)
    out = np.empty((len(boxes), INSTANCE, INSTANCE, 5), np.uint8)
    size = (INSTANCE, INSTANCE)
    for n, (x0, y0, x1, _) in enumerate(boxes):
        side = int(x1 - x0)
        more = round(side * rng.uniform(-0.05, 0.1)) if side < INSTANCE else 0
        crop = _cut(image, coarse, target, int(x0) - more // 2, int(y0) - more // 2, side + more)
        picture, masks = np.ascontiguousarray(crop[..., :3]), np.ascontiguousarray(crop[..., 3:])
        out[n, :, :, :3] = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
        out[n, :, :, 3:] = cv2.resize(masks, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return out
