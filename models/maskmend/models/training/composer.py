"""Composed scenes: photographs put together from cut-outs whose edges are known exactly.

COCO's own polygons are off by 2-4 px, too coarse to teach or to measure single-pixel edges. Here the silhouette is
chosen first, so the true mask is exact; appearance, light, blur, noise and compression vary as widely as a scene allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.models.training import appearance
from maskmend.models.training.appearance import Picture
from maskmend.models.training.shapes import random_shape
from maskmend.models.training.sources import Sources


@dataclass(frozen=True)
class Scene:
    """A composed photograph uint8 [H, W, 3] RGB and the visible part of each object, bool [H, W]."""

    image: NDArray[np.uint8]
    masks: list[NDArray[np.bool_]]


@dataclass(frozen=True)
class _Sprite:
    """An object before it is placed: silhouette uint8 [h, w] (0..255) and its own pixels, if it has any."""

    silhouette: NDArray[np.uint8]
    own: Picture | None


@dataclass(frozen=True)
class _Layer:
    """A placed object: colour [H, W, 3], coverage [H, W]; with what it takes to place another one beside it."""

    colour: Picture
    alpha: Picture
    sprite: _Sprite
    scale: float
    centre: tuple[float, float]


def compose(sources: Sources, rng: np.random.Generator, *, size: tuple[int, int] | None = None) -> Scene:
    """Compose one scene.

    Args:
        sources: what to draw from.
        rng: source of every random choice; the same state gives the same scene.
        size: (height, width) in pixels; random between 288 and 720 when not given, small ones more often.

    Returns:
        The scene; masks hold only objects of which at least 80 px are visible.
    """
    height, width = (
        size if size is not None else (int(side) for side in np.exp(rng.uniform(np.log(288), np.log(720), 2)))
    )
    canvas = _background(sources, height, width, rng)
    backdrop = canvas.copy()
    masks: list[NDArray[np.bool_]] = []
    layer: _Layer | None = None
    for _ in range(int(rng.integers(2, 7))):
        beside = layer if layer is not None and rng.random() < 0.25 else None
        layer = _object(sources, backdrop, beside, rng)
        if rng.random() < 0.35:
            appearance.cast_shadow(canvas, layer.alpha, rng)
        alpha = layer.alpha[:, :, None]
        canvas = canvas * (1 - alpha) + layer.colour * alpha
        solid = layer.alpha > 0.5
        # Whatever comes later lies in front.
        masks = [mask & ~solid for mask in masks]
        masks.append(solid)
    image = appearance.photograph(canvas, rng)
    return Scene(image, [mask for mask in masks if np.count_nonzero(mask) >= 80])


def _background(sources: Sources, height: int, width: int, rng: np.random.Generator) -> Picture:
    if rng.random() < 0.12:
        return appearance.procedural(height, width, rng)
    picture = appearance.texture(sources, height, width, rng)
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 5.0)).astype(np.float32)
    return picture


def _sprite(sources: Sources, rng: np.random.Generator) -> _Sprite:
    kind = rng.random()
    if kind < 0.55 and sources.cutouts:
        cutout = sources.cutouts[int(rng.integers(len(sources.cutouts)))]
        # COCO's polygons reach past the object: a few pixels further in, everything is the object's own.
        inside = cv2.erode(cutout.mask, np.ones((3, 3), np.uint8), iterations=int(rng.integers(2, 5)), borderValue=0)
        if rng.random() < 0.5:
            # Annotators draw corners where objects have none.
            inside = (cv2.GaussianBlur(inside.astype(np.float32), (0, 0), rng.uniform(1, 3)) > 0.5).astype(np.uint8)
        return _Sprite(inside * np.uint8(255), cutout.image.astype(np.float32))
    if kind < 0.62 and sources.silhouettes:
        silhouette = sources.silhouettes[int(rng.integers(len(sources.silhouettes)))] * np.uint8(255)
        return _Sprite(np.asarray(cv2.resize(silhouette, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)), None)
    return _Sprite(random_shape(int(rng.integers(160, 420)), rng), None)


def _object(sources: Sources, backdrop: Picture, beside: _Layer | None, rng: np.random.Generator) -> _Layer:
    """Place an object: anywhere, or as a neighbour of the same kind that touches or covers the one before."""
    height, width = backdrop.shape[:2]
    sprite = _sprite(sources, rng) if beside is None else beside.sprite
    silhouette, own = sprite.silhouette, sprite.own
    if beside is None:
        extent = rng.uniform(0.1, 1.0) ** 1.2 * min(height, width) + 12
        scale = float(np.clip(extent / max(silhouette.shape), 0.05, 2.5))
        centre = tuple(rng.uniform(0.05, 0.95, 2) * (width, height))
    else:
        scale = beside.scale * rng.uniform(0.8, 1.25)
        direction, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.0) * beside.scale * max(silhouette.shape)
        centre = (
            float(np.clip(beside.centre[0] + distance * np.cos(direction), 0, width)),
            float(np.clip(beside.centre[1] + distance * np.sin(direction), 0, height)),
        )
    angle = rng.uniform(-25, 25) if own is not None else rng.uniform(-180, 180)
    place = cv2.getRotationMatrix2D((silhouette.shape[1] / 2, silhouette.shape[0] / 2), angle, scale)
    place[:, 2] += np.array(centre) - (silhouette.shape[1] / 2, silhouette.shape[0] / 2)
    if rng.random() < 0.5:
        silhouette = np.ascontiguousarray(silhouette[:, ::-1])
        own = None if own is None else np.ascontiguousarray(own[:, ::-1])
    # Blurred to the scale it will be shown at, so that shrinking does not alias.
    softened = silhouette.astype(np.float32) / 255
    if scale < 0.7:
        softened = cv2.GaussianBlur(softened, (0, 0), 0.4 / scale)
        own = None if own is None else cv2.GaussianBlur(own, (0, 0), 0.4 / scale).astype(np.float32)
    alpha = np.asarray(cv2.warpAffine(softened, place, (width, height), flags=cv2.INTER_LINEAR), np.float32)
    if own is not None and rng.random() < 0.85:
        colour = np.asarray(
            cv2.warpAffine(own, place, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )
    else:
        colour = appearance.surface(sources, backdrop, rng)
        if rng.random() < 0.35:
            colour = appearance.parts(colour, appearance.surface(sources, backdrop, rng), rng)
    colour, alpha = _dressed(colour, alpha, backdrop, rng)
    return _Layer(colour, alpha, sprite, scale, (float(centre[0]), float(centre[1])))


def _dressed(colour: Picture, alpha: Picture, backdrop: Picture, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """Light, shape and edge of a placed object."""
    colour = appearance.lit(colour, rng)
    if rng.random() < 0.4:
        colour = appearance.rounded(colour, alpha, rng)
    if rng.random() < 0.25:
        colour = appearance.harmonised(colour, alpha, backdrop, rng)
    alpha = appearance.soft_edge(alpha, rng)
    if rng.random() < 0.12:
        alpha = appearance.fringe(alpha, rng)
    if rng.random() < 0.15:
        colour, alpha = appearance.motion(colour, alpha, rng)
    return colour, alpha
