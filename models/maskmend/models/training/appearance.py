"""How a composed object and a composed photograph look: surfaces, light, edges, camera. Pictures are float32, 0..255."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.models.training.coarse import smooth_noise
from maskmend.models.training.sources import Sources

Picture = NDArray[np.float32]
"""Colour [H, W, 3] in 0..255, or coverage [H, W] in 0..1."""


def texture(sources: Sources, height: int, width: int, rng: np.random.Generator) -> Picture:
    """A random crop [H, W, 3] of a random photograph at a random scale."""
    photograph = sources.photographs[int(rng.integers(len(sources.photographs)))]
    scale = max(rng.uniform(0.6, 1.8), height / photograph.shape[0], width / photograph.shape[1])
    h, w = min(photograph.shape[0], int(height / scale) + 1), min(photograph.shape[1], int(width / scale) + 1)
    y, x = int(rng.integers(photograph.shape[0] - h + 1)), int(rng.integers(photograph.shape[1] - w + 1))
    crop = cv2.resize(photograph[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return np.ascontiguousarray(crop, dtype=np.float32)


def procedural(height: int, width: int, rng: np.random.Generator) -> Picture:
    """A flat colour [H, W, 3] under clouds of one to three scales."""
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = rng.uniform(10, 245, 3).astype(np.float32)
    for _ in range(int(rng.integers(1, 4))):
        tint = rng.normal(0, 22, 3).astype(np.float32)
        picture += smooth_noise((height, width), float(rng.uniform(2, 120)), rng)[:, :, None] * tint
    return np.clip(picture, 0, 255)


def surface(sources: Sources, backdrop: Picture, rng: np.random.Generator) -> Picture:
    """What an object without pixels of its own is covered with: texture, clouds, or a moved copy of its surroundings."""
    height, width = backdrop.shape[:2]
    choice = rng.random()
    if choice < 0.25:
        return procedural(height, width, rng)
    if choice < 0.45:
        moved = np.roll(backdrop, (int(rng.integers(20, height)), int(rng.integers(20, width))), axis=(0, 1))
        return np.clip(moved + rng.normal(0, 18, 3).astype(np.float32), 0, 255)
    found = texture(sources, height, width, rng)
    if rng.random() < 0.4:
        # Cloth, skin and metal are smoother than most of what a photograph shows.
        found = cv2.GaussianBlur(found, (0, 0), rng.uniform(1.0, 6.0)).astype(np.float32)
    return found


def parts(colour: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Cover some of an object by another surface: shirt and trousers, a wheel and its tyre. Edges that are not its own."""
    shape = (colour.shape[0], colour.shape[1])
    if rng.random() < 0.5:
        field = smooth_noise(shape, float(rng.uniform(40, 160)), rng)
    else:
        direction = rng.uniform(0, 2 * np.pi)
        rows, columns = np.indices(shape, dtype=np.float32)
        field = np.sin(
            (rows * np.sin(direction) + columns * np.cos(direction)) / rng.uniform(8, 60) + rng.uniform(0, 6)
        )
    share = 0.5 + 0.5 * np.tanh((field - rng.uniform(-0.5, 0.5)) * rng.uniform(2, 20))
    return np.asarray(colour + (other - colour) * share[:, :, None].astype(np.float32), np.float32)


def lit(colour: Picture, rng: np.random.Generator) -> Picture:
    """Shade the object across a random direction and shift its tone."""
    height, width = colour.shape[:2]
    direction = rng.uniform(0, 2 * np.pi)
    ramp = np.add.outer(
        np.linspace(-1, 1, height, dtype=np.float32) * np.float32(np.sin(direction)),
        np.linspace(-1, 1, width, dtype=np.float32) * np.float32(np.cos(direction)),
    )
    gain = rng.uniform(0.75, 1.25) * (1 + rng.uniform(0, 0.4) * ramp)
    tone = rng.normal(1, 0.05, 3).astype(np.float32)
    return np.asarray(np.clip(colour * gain[:, :, None].astype(np.float32) * tone, 0, 255), np.float32)


def rounded(colour: Picture, alpha: Picture, rng: np.random.Generator) -> Picture:
    """Darken or brighten towards the outline, more on one side, as light does on a body that curves away."""
    depth = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    rim = np.exp(-depth / rng.uniform(2, 25))
    gain = 1 + rng.uniform(-0.7, 0.35) * rim
    if rng.random() < 0.5:
        move = np.array([[1, 0, rng.normal(0, 6)], [0, 1, rng.normal(0, 6)]])
        inner = cv2.GaussianBlur(cv2.warpAffine(alpha, move, alpha.shape[::-1]), (0, 0), rng.uniform(2, 8))
        gain = gain * (1 + rng.uniform(-0.5, 0.5) * (1 - inner))
    return np.asarray(np.clip(colour * gain[:, :, None], 0, 255), np.float32)


def harmonised(colour: Picture, alpha: Picture, backdrop: Picture, rng: np.random.Generator) -> Picture:
    """Move the object's mean colour towards that of its surroundings, so that both sides of the edge look alike."""
    inside = alpha > 0.5
    if np.count_nonzero(inside) < 20:
        return colour
    grown = cv2.dilate(inside.astype(np.uint8), np.ones((9, 9), np.uint8), iterations=2) > 0
    around = grown & ~inside
    if not around.any():
        return colour
    shift = backdrop[around].mean(0) - colour[inside].mean(0)
    return np.asarray(np.clip(colour + np.float32(rng.uniform(0.4, 1.0)) * shift, 0, 255), np.float32)


def soft_edge(alpha: Picture, rng: np.random.Generator) -> Picture:
    """Lens blur of the edge: symmetric, so that alpha = 0.5 stays where the silhouette ends."""
    sigma = rng.uniform(0.35, 1.0) if rng.random() < 0.75 else rng.uniform(1.0, 2.5)
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), sigma))


def motion(colour: Picture, alpha: Picture, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """Smear an object and its coverage along one direction by 3 to 17 px."""
    length = int(rng.integers(1, 9)) * 2 + 1
    kernel = np.zeros((length, length), np.float32)
    end = np.array([np.cos(t := rng.uniform(0, np.pi)), np.sin(t)]) * (length // 2)
    middle = np.array([length // 2] * 2)
    start, stop = (np.round(middle + sign * end).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, start, stop, 1.0)
    kernel /= kernel.sum()
    weight = cv2.filter2D(alpha, -1, kernel)
    # Colours are averaged over the object alone: what lies beside it in its own picture is not part of it.
    smeared = cv2.filter2D(colour * alpha[:, :, None], -1, kernel) / np.maximum(weight, 1e-3)[:, :, None]
    shown = np.where(weight[:, :, None] > 1e-3, smeared, colour)
    return np.asarray(shown, np.float32), np.asarray(weight, np.float32)


def fringe(alpha: Picture, rng: np.random.Generator) -> Picture:
    """Fine hair along part of the outline, less than half opaque, so that the true edge stays where it is."""
    solid = (alpha > 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return alpha
    outline = max(contours, key=len).reshape(-1, 2)
    if len(outline) < 40:
        return alpha
    strands = np.zeros(alpha.shape, np.uint8)
    first, span = int(rng.integers(len(outline))), int(len(outline) * rng.uniform(0.1, 0.6))
    length, lean = rng.uniform(2, 9), rng.uniform(-1.2, 1.2)
    for place in rng.integers(0, span, int(span * rng.uniform(0.2, 0.9))):
        at = outline[(first + place) % len(outline)].astype(float)
        ahead = outline[(first + place + 5) % len(outline)] - at
        angle = np.arctan2(ahead[1], ahead[0]) - np.pi / 2 + rng.normal(lean, 0.35)
        to = at + rng.uniform(0.3, 1.0) * length * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(strands, _point(at), _point(to), 255, 1, cv2.LINE_AA)
    veil = cv2.GaussianBlur(strands.astype(np.float32), (0, 0), 0.5) * np.float32(rng.uniform(0.2, 0.45) / 255)
    return np.asarray(np.maximum(alpha, np.minimum(veil, 0.48)), np.float32)


def cast_shadow(canvas: Picture, alpha: Picture, rng: np.random.Generator) -> None:
    """Darken what lies behind, next to the object, in place."""
    move = np.array([[1, 0, rng.normal(0, 8)], [0, 1, rng.uniform(0, 12)]])
    shadow = cv2.warpAffine(alpha, move, alpha.shape[::-1])
    shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(1.5, 10))
    canvas *= 1 - rng.uniform(0.15, 0.6) * shadow[:, :, None]


def photograph(canvas: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What a camera and a file format add: defocus, low resolution, sharpening, noise, tone curve, JPEG."""
    picture: NDArray[Any] = canvas
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.0))
    size = picture.shape[1::-1]
    if rng.random() < 0.25:
        scale = rng.uniform(0.45, 0.9)
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        picture = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
    picture = 255 * (np.clip(picture, 0, 255) / 255) ** rng.uniform(0.7, 1.4)
    picture = (picture - 128) * rng.uniform(0.7, 1.15) + 128 + rng.uniform(-20, 20)
    if rng.random() < 0.55:
        channels = 3 if rng.random() < 0.4 else 1
        noise = rng.standard_normal((*picture.shape[:2], channels), dtype=np.float32)
        if rng.random() < 0.3:
            # Noise reduction leaves grains of a few pixels.
            noise = 2 * cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 1.2)).reshape(noise.shape)
        picture = picture + np.float32(rng.uniform(1, 9)) * noise
    if rng.random() < 0.3:
        picture = picture + rng.uniform(0.3, 1.5) * (picture - cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 1.6)))
    image = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.75:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 97))])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    if rng.random() < 0.05:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    return np.ascontiguousarray(image)


def _point(at: NDArray[np.float64]) -> tuple[int, int]:
    return int(at[0]), int(at[1])
