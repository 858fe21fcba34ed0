"""Composed scenes: photographs put together from cut-outs whose edges are known exactly.

COCO's own polygons are off by 2-4 px, too coarse to teach or to measure single-pixel edges. Here the silhouette is
chosen first, so the true mask is exact; appearance, light, blur, noise and compression vary as widely as a scene allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.models.training.coarse import smooth_noise
from maskmend.models.training.shapes import random_shape
from maskmend.models.training.sources import Sources

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """A composed photograph uint8 [H, W, 3] RGB and the visible part of each object, bool [H, W]."""

    image: NDArray[np.uint8]
    masks: list[NDArray[np.bool_]]


@dataclass(frozen=True)
class _Layer:
    colour: Picture  # [H, W, 3], 0..255
    alpha: Picture  # [H, W], 0..1


def compose(sources: Sources, rng: np.random.Generator, *, size: tuple[int, int] | None = None) -> Scene:
    """Compose one scene.

    Args:
        sources: what to draw from.
        rng: source of every random choice; the same state gives the same scene.
        size: (height, width) in pixels; random between 288 and 480 when not given.

    Returns:
        The scene; masks hold only objects of which at least 80 px are visible.
    """
    height, width = size if size is not None else (int(rng.integers(288, 481)), int(rng.integers(288, 481)))
    canvas = _background(sources, height, width, rng)
    backdrop = canvas.copy()
    masks: list[NDArray[np.bool_]] = []
    for _ in range(int(rng.integers(2, 7))):
        layer = _object(sources, backdrop, rng)
        if rng.random() < 0.35:
            _cast_shadow(canvas, layer.alpha, rng)
        alpha = layer.alpha[:, :, None]
        canvas = canvas * (1 - alpha) + layer.colour * alpha
        solid = layer.alpha > 0.5
        # Whatever comes later lies in front.
        masks = [mask & ~solid for mask in masks]
        masks.append(solid)
    image = _photograph(canvas, rng)
    return Scene(image, [mask for mask in masks if np.count_nonzero(mask) >= 80])


def _background(sources: Sources, height: int, width: int, rng: np.random.Generator) -> Picture:
    if rng.random() < 0.12:
        return _procedural(height, width, rng)
    picture = _texture(sources, height, width, rng)
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 5.0)).astype(np.float32)
    return picture


def _texture(sources: Sources, height: int, width: int, rng: np.random.Generator) -> Picture:
    """A random crop of a random photograph at a random scale."""
    photograph = sources.photographs[int(rng.integers(len(sources.photographs)))]
    scale = max(rng.uniform(0.6, 1.6), height / photograph.shape[0], width / photograph.shape[1])
    h, w = min(photograph.shape[0], int(height / scale) + 1), min(photograph.shape[1], int(width / scale) + 1)
    y, x = int(rng.integers(photograph.shape[0] - h + 1)), int(rng.integers(photograph.shape[1] - w + 1))
    crop = cv2.resize(photograph[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return np.ascontiguousarray(crop, dtype=np.float32)


def _procedural(height: int, width: int, rng: np.random.Generator) -> Picture:
    base = rng.uniform(10, 245, 3).astype(np.float32)
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = base
    for _ in range(int(rng.integers(1, 4))):
        tint = rng.normal(0, 22, 3).astype(np.float32)
        picture += smooth_noise((height, width), float(rng.uniform(2, 120)), rng)[:, :, None] * tint
    return np.clip(picture, 0, 255)


def _object(sources: Sources, backdrop: Picture, rng: np.random.Generator) -> _Layer:
    height, width = backdrop.shape[:2]
    kind = rng.random()
    own: Picture | None = None
    if kind < 0.5 and sources.cutouts:
        cutout = sources.cutouts[int(rng.integers(len(sources.cutouts)))]
        # COCO's polygons reach past the object: a few pixels further in, everything is the object's own.
        inside = cv2.erode(cutout.mask, np.ones((3, 3), np.uint8), iterations=3, borderValue=0)
        silhouette, own = inside * np.uint8(255), cutout.image.astype(np.float32)
    elif kind < 0.58 and sources.silhouettes:
        silhouette = sources.silhouettes[int(rng.integers(len(sources.silhouettes)))] * np.uint8(255)
        silhouette = cv2.resize(silhouette, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    else:
        silhouette = random_shape(int(rng.integers(160, 420)), rng)
    extent = rng.uniform(0.1, 0.75) ** 1.2 * min(height, width) + 12
    scale = float(np.clip(extent / max(silhouette.shape), 0.05, 2.0))
    angle = rng.uniform(-25, 25) if own is not None else rng.uniform(-180, 180)
    place = cv2.getRotationMatrix2D((silhouette.shape[1] / 2, silhouette.shape[0] / 2), angle, scale)
    place[:, 2] += rng.uniform(0.05, 0.95, 2) * (width, height) - (silhouette.shape[1] / 2, silhouette.shape[0] / 2)
    if rng.random() < 0.5:
        silhouette = np.ascontiguousarray(silhouette[:, ::-1])
        own = None if own is None else np.ascontiguousarray(own[:, ::-1])
    # Blurred to the scale it will be shown at, so that shrinking does not alias.
    softened = silhouette.astype(np.float32) / 255
    if scale < 0.7:
        softened = cv2.GaussianBlur(softened, (0, 0), 0.4 / scale)
        own = None if own is None else cv2.GaussianBlur(own, (0, 0), 0.4 / scale).astype(np.float32)
    alpha = cv2.warpAffine(softened, place, (width, height), flags=cv2.INTER_LINEAR)
    colour = _fill(sources, own, place, backdrop, rng)
    return _Layer(_lit(colour, rng), _soft_edge(np.asarray(alpha, np.float32), rng))


def _fill(
    sources: Sources, own: Picture | None, place: NDArray[np.float64], backdrop: Picture, rng: np.random.Generator
) -> Picture:
    height, width = backdrop.shape[:2]
    choice = rng.random()
    if own is not None and choice < 0.8:
        return np.asarray(
            cv2.warpAffine(own, place, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )
    if choice < 0.2:
        return _procedural(height, width, rng)
    if choice < 0.4:
        # Camouflage: the same surroundings, moved and a little lighter or darker.
        moved = np.roll(backdrop, (int(rng.integers(20, height)), int(rng.integers(20, width))), axis=(0, 1))
        return np.clip(moved + rng.normal(0, 18, 3).astype(np.float32), 0, 255)
    return _texture(sources, height, width, rng)


def _lit(colour: Picture, rng: np.random.Generator) -> Picture:
    """Shade the object across a random direction and shift its tone."""
    height, width = colour.shape[:2]
    direction = rng.uniform(0, 2 * np.pi)
    ramp = np.add.outer(
        np.linspace(-1, 1, height, dtype=np.float32) * np.float32(np.sin(direction)),
        np.linspace(-1, 1, width, dtype=np.float32) * np.float32(np.cos(direction)),
    )
    gain = rng.uniform(0.75, 1.25) * (1 + rng.uniform(0, 0.3) * ramp)
    tone = rng.normal(1, 0.05, 3).astype(np.float32)
    return np.asarray(np.clip(colour * gain[:, :, None].astype(np.float32) * tone, 0, 255), np.float32)


def _soft_edge(alpha: Picture, rng: np.random.Generator) -> Picture:
    """Lens and motion blur of the edge: symmetric, so that alpha = 0.5 stays where the silhouette ends."""
    choice = rng.random()
    if choice < 0.7:
        return np.asarray(cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.35, 1.0)))
    if choice < 0.9:
        return np.asarray(cv2.GaussianBlur(alpha, (0, 0), rng.uniform(1.0, 2.2)))
    length = int(rng.integers(1, 4)) * 2 + 1
    kernel = np.zeros((length, length), np.float32)
    end = np.array([np.cos(t := rng.uniform(0, np.pi)), np.sin(t)]) * (length // 2)
    middle = np.array([length // 2] * 2)
    cv2.line(kernel, tuple(np.round(middle - end).astype(int)), tuple(np.round(middle + end).astype(int)), 1.0)
    return np.asarray(cv2.filter2D(alpha, -1, kernel / kernel.sum()))


def _cast_shadow(canvas: Picture, alpha: Picture, rng: np.random.Generator) -> None:
    """Darken what lies behind, next to the object, in place."""
    move = np.array([[1, 0, rng.normal(0, 8)], [0, 1, rng.uniform(0, 12)]])
    shadow = cv2.warpAffine(alpha, move, alpha.shape[::-1])
    shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(1.5, 10))
    canvas *= 1 - rng.uniform(0.15, 0.6) * shadow[:, :, None]


def _photograph(canvas: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What a camera and a file format add: defocus, noise, tone curve, JPEG."""
    picture: NDArray[Any] = canvas
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.0))
    picture = 255 * (np.clip(picture, 0, 255) / 255) ** rng.uniform(0.75, 1.35)
    picture = (picture - 128) * rng.uniform(0.75, 1.15) + 128 + rng.uniform(-15, 15)
    if rng.random() < 0.6:
        picture = picture + rng.normal(0, rng.uniform(1, 8), (*picture.shape[:2], 1)).astype(np.float32)
    image = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.7:
        quality = int(rng.integers(45, 97))
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    if rng.random() < 0.06:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    return np.ascontiguousarray(image)
