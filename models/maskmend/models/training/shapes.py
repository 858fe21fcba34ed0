"""Procedural silhouettes for composed scenes: blobs, polygons, limbs, thin structures.

Every maker gives a uint8 [size, size] picture with 0 or 255, drawn large and anti-aliased later by the composer's
resampling, so the edge is known exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Silhouette = NDArray[np.uint8]


def random_shape(size: int, rng: np.random.Generator) -> Silhouette:
    """Draw one of the shape families at random, sometimes with holes.

    Args:
        size: side of the square picture in pixels.
        rng: source of randomness.

    Returns:
        uint8 [size, size], 255 inside.
    """
    maker = _MAKERS[int(rng.choice(len(_MAKERS), p=_SHARES))]
    picture = maker(size, rng)
    if rng.random() < 0.2:
        for _ in range(int(rng.integers(1, 4))):
            centre = tuple(int(v) for v in rng.uniform(0.25, 0.75, 2) * size)
            axes = tuple(int(v) for v in rng.uniform(0.03, 0.12, 2) * size)
            cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, 0, -1)
    return picture


def _blob(size: int, rng: np.random.Generator) -> Silhouette:
    angles = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    radius = np.ones_like(angles)
    roughness = rng.uniform(0.6, 1.6)
    for k in range(1, int(rng.integers(4, 22))):
        radius += rng.normal(0, 0.28 / k**roughness) * np.cos(k * angles + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.15, None)
    radius *= 0.46 * size / radius.max()
    squeeze = rng.uniform(0.4, 1.0)
    points = np.stack([radius * np.cos(angles), squeeze * radius * np.sin(angles)], 1) + size / 2
    return _fill(size, points)


def _polygon(size: int, rng: np.random.Generator) -> Silhouette:
    n = int(rng.integers(3, 11))
    angles = np.sort(rng.uniform(0, 2 * np.pi, n))
    radius = rng.uniform(0.2, 0.48, n) * size
    return _fill(size, np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1) + size / 2)


def _limbs(size: int, rng: np.random.Generator) -> Silhouette:
    """A body with jointed, tapering limbs, as people and animals have."""
    picture = np.zeros((size, size), np.uint8)
    body = np.array([0.5, 0.48]) * size
    axes = (int(size * rng.uniform(0.07, 0.16)), int(size * rng.uniform(0.12, 0.22)))
    tilt = float(rng.uniform(0, 180))
    cv2.ellipse(picture, _at(body), axes, tilt, 0, 360, 255, -1)
    for _ in range(int(rng.integers(2, 7))):
        at = body + rng.normal(0, 0.06, 2) * size
        direction = rng.uniform(0, 2 * np.pi)
        width = size * rng.uniform(0.02, 0.08)
        for _ in range(int(rng.integers(1, 4))):
            to = at + size * rng.uniform(0.1, 0.2) * np.array([np.cos(direction), np.sin(direction)])
            cv2.line(picture, _at(at), _at(to), 255, max(1, int(width)), cv2.LINE_8)
            cv2.circle(picture, _at(to), max(1, int(width / 2)), 255, -1)
            at, direction, width = to, direction + rng.normal(0, 0.7), width * rng.uniform(0.6, 0.95)
        if rng.random() < 0.4:
            cv2.circle(picture, _at(at), int(size * rng.uniform(0.03, 0.09)), 255, -1)
    return picture


def _thin(size: int, rng: np.random.Generator) -> Silhouette:
    """Curved bars, frames and branches a few pixels wide."""
    picture = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(1, 6))):
        t = np.linspace(0, 1, 40)[:, None]
        control = rng.uniform(0.05, 0.95, (4, 2)) * size
        curve = (
            (1 - t) ** 3 * control[0]
            + 3 * (1 - t) ** 2 * t * control[1]
            + 3 * (1 - t) * t**2 * control[2]
            + t**3 * control[3]
        )
        thickness = max(2, int(size * rng.uniform(0.012, 0.06)))
        cv2.polylines(picture, [np.round(curve).astype(np.int32)], rng.random() < 0.2, 255, thickness)
    return picture


def _fill(size: int, points: NDArray[np.float64]) -> Silhouette:
    picture = np.zeros((size, size), np.uint8)
    cv2.fillPoly(picture, [np.round(points * 16).astype(np.int32)], 255, shift=4)
    return picture


def _at(point: NDArray[np.float64]) -> tuple[int, int]:
    return int(point[0]), int(point[1])


_MAKERS: tuple[Callable[[int, np.random.Generator], Silhouette], ...] = (_blob, _polygon, _limbs, _thin)
_SHARES = (0.4, 0.15, 0.3, 0.15)
