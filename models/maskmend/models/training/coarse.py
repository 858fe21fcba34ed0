"""Coarse-mask makers: what segmenters do to a true mask.

Shared by the training data and by `maskmend degrade`. Every maker takes a bool mask [H, W] in image pixels and a
`numpy.random.Generator`, works on a region around the object, and gives a bool mask [H, W]. Sources of the recipes:
Mask R-CNN's 28x28 grid, YOLO's quarter-resolution prototypes over a 640 px input, CascadePSP's and SegRefiner's
perturbations, polygon simplification, smooth warps.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher.errors import OptionError

Mask = NDArray[np.bool_]
Float = NDArray[np.float32]

KINDS = ("rcnn28", "yolo", "polygon", "warp", "perturb")
"""Kinds that `maskmend degrade` offers."""


def degrade(mask: NDArray[np.generic], kind: str, rng: np.random.Generator, *, frame: int | None = None) -> Mask:
    """Make a coarse mask from a true one.

    Args:
        mask: bool or uint8 [H, W], nonzero is the object.
        kind: one of `KINDS`, or of the further kinds used in training (`exact`, `shift`, `swell`, `specks`, `grid`,
            `drift`).
        rng: source of every random choice.
        frame: longer side in px of the image that the segmenter saw, for kinds that depend on it; by default the mask's.

    Returns:
        bool [H, W]. Where the maker leaves nothing of the object, the true mask.

    Raises:
        OptionError: `kind` is unknown.
    """
    maker = _MAKERS.get(kind)
    if maker is None:
        raise OptionError(f"kind is {kind!r}; use one of {', '.join(_MAKERS)}", field="kind")
    true: Mask = np.asarray(mask) != 0
    rows, columns = np.flatnonzero(true.any(1)), np.flatnonzero(true.any(0))
    if not rows.size:
        return true.copy()
    height, width = true.shape
    # Room for whatever the makers add around the object.
    margin = 24 + max(rows[-1] - rows[0], columns[-1] - columns[0]) // 8
    y0, y1 = max(0, rows[0] - margin), min(height, rows[-1] + 1 + margin)
    x0, x1 = max(0, columns[0] - margin), min(width, columns[-1] + 1 + margin)
    region = np.ascontiguousarray(true[y0:y1, x0:x1]).astype(np.uint8)
    made = maker(region, rng, frame or max(height, width))
    if not made.any():
        return true.copy()
    out: Mask = np.zeros_like(true)
    out[y0:y1, x0:x1] = made
    return out


def smooth_noise(shape: tuple[int, int], cell: float, rng: np.random.Generator) -> Float:
    """Zero-mean, unit-variance noise [H, W] that varies over about `cell` pixels."""
    grid = (max(2, int(np.ceil(shape[0] / cell)) + 3), max(2, int(np.ceil(shape[1] / cell)) + 3))
    small = rng.standard_normal(grid).astype(np.float32)
    noise = cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return np.asarray((noise - noise.mean()) / (noise.std() + np.float32(1e-6)), np.float32)


def _bounding_box(mask: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    x, y, w, h = cv2.boundingRect(mask)
    return int(x), int(y), int(x + w), int(y + h)


def _rcnn28(mask: NDArray[np.uint8], rng: np.random.Generator, frame: int) -> Mask:
    """Mask R-CNN: a soft 28x28 grid over the detected box, resized back and cut at one half."""
    return _soft_grid(mask, rng, 28)


def _grid(mask: NDArray[np.uint8], rng: np.random.Generator, frame: int) -> Mask:
    """The same on fewer cells: what a 28x28 grid does to an object larger than training scenes hold."""
    return _soft_grid(mask, rng, int(rng.integers(10, 25)))


def _soft_grid(mask: NDArray[np.uint8], rng: np.random.Generator, cells: int) -> Mask:
    x0, y0, x1, y1 = _bounding_box(mask)
    jitter = 0.02 * np.array([x1 - x0, y1 - y0, x1 - x0, y1 - y0]) * rng.uniform(-1, 1, 4)
    bx0, by0, bx1, by1 = np.array([x0, y0, x1, y1]) + jitter * (rng.random() < 0.7)
    w, h = max(bx1 - bx0, 1.0), max(by1 - by0, 1.0)
    to_grid = np.array(
        [
            [cells / w, 0, -bx0 * cells / w - 0.5 + cells / (2 * w)],
            [0, cells / h, -by0 * cells / h - 0.5 + cells / (2 * h)],
        ]
    )
    soft = mask.astype(np.float32)
    # Sampling far below the grid's rate needs the average of each cell, which a blur of its size gives.
    kernel = (max(1, round(w / cells)) | 1, max(1, round(h / cells)) | 1)
    grid = cv2.warpAffine(cv2.blur(soft, kernel), to_grid, (cells, cells), flags=cv2.INTER_LINEAR)
    grid = cv2.GaussianBlur(grid, (0, 0), rng.uniform(0.3, 0.7))
    grid = grid + rng.uniform(0.02, 0.12) * smooth_noise((cells, cells), rng.uniform(1.5, 5), rng)
    back = cv2.warpAffine(
        grid.astype(np.float32),
        to_grid,
        (mask.shape[1], mask.shape[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    return np.asarray(back > 0.5)


def _yolo(mask: NDArray[np.uint8], rng: np.random.Generator, frame: int) -> Mask:
    """YOLO: prototypes at a quarter of a 640 px input, bilinear back to the image, cut to the box."""
    cell = 4.0 * frame / 640.0
    size = (max(2, round(mask.shape[1] / cell)), max(2, round(mask.shape[0] / cell)))
    if cell > 1:
        small = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    else:
        small = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.25, 0.6))
    small = small + rng.uniform(0.0, 0.08) * smooth_noise((size[1], size[0]), rng.uniform(1.5, 4), rng)
    back = cv2.resize(small.astype(np.float32), mask.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
    x0, y0, x1, y1 = np.array(_bounding_box(mask)) + rng.integers(-1, 2, 4)
    cut = np.zeros(mask.shape, dtype=bool)
    cut[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return np.asarray(back & cut)


def _polygon(mask: NDArray[np.uint8], rng: np.random.Generator, frame: int) -> Mask:
    """An annotator's polygon: few vertices, each a little off."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    x0, y0, x1, y1 = _bounding_box(mask)
    diagonal = float(np.hypot(x1 - x0, y1 - y0))
    epsilon = max(0.5, diagonal * rng.uniform(0.006, 0.025))
    wobble = min(0.35 * epsilon, 3.0)
    drawn = np.zeros_like(mask)
    for contour in contours:
        if len(contour) < 3:
            continue
        vertices = cv2.approxPolyDP(contour, epsilon, True).reshape(-1, 2)
        if len(vertices) < 3:
            continue
        moved = vertices + rng.normal(0, wobble, vertices.shape)
        cv2.fillPoly(drawn, [np.round(moved * 16).astype(np.int32)], 1, shift=4)
    return np.asarray(drawn != 0)


def _warp(mask: NDArray[np.uint8], rng: np.random.Generator, frame: int) -> Mask:
    """The right shape in the wrong place: a smooth displacement of 1 to 4 % of the object's size."""
    return _displaced(mask, rng, least=0.01, most=0.035, limit=8.0)


def _drift(mask: NDArray[np.uint8], rng: np.random.Generator, frame: int) -> Mask:
    """The same by 2 to 6 %: what `warp` does to an object larger than training scenes hold."""
    return _displaced(mask, rng, least=0.02, most=0.06, limit=14.0)


def _displaced(mask: NDArray[np.uint8], rng: np.random.Generator, *, least: float, most: float, limit: float) -> Mask:
    x0, y0, x1, y1 = _bounding_box(mask)
    size = float(np.sqrt((x1 - x0) * (y1 - y0)))
    amplitude = min(size * rng.uniform(least, most), limit)
    cell = max(8.0, size * rng.uniform(0.1, 0.35))
    rows, columns = np.indices(mask.shape, dtype=np.float32)
    dx = amplitude * smooth_noise((mask.shape[0], mask.shape[1]), cell, rng)
    dy = amplitude * smooth_noise((mask.shape[0], mask.shape[1]), cell, rng)
    moved = cv2.remap(mask.astype(np.float32), columns + dx, rows + dy, cv2.INTER_LINEAR)
    return np.asarray(moved > 0.5)


def _perturb(mask: NDArray[np.uint8], rng: np.random.Generator, frame: int) -> Mask:
    """CascadePSP: thin out the contour, then swell and shrink small squares until the IoU falls to a target."""
    made = _thinned_contour(mask, rng)
    target = rng.uniform(0.8, 1.0)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    points = np.concatenate([c.reshape(-1, 2) for c in contours])
    x0, y0, x1, y1 = _bounding_box(mask)
    largest = int(np.clip(0.25 * np.sqrt((x1 - x0) * (y1 - y0)), 4, 48))
    for _ in range(250):
        if _iou(made, mask) <= target:
            break
        x, y = points[rng.integers(len(points))] + rng.integers(-2, 3, 2)
        half_w, half_h = rng.integers(2, largest + 1, 2)
        window = made[max(y - half_h, 0) : y + half_h + 1, max(x - half_w, 0) : x + half_w + 1]
        if window.size == 0:
            continue
        if rng.random() < 0.25 and 0 <= y < made.shape[0] and 0 <= x < made.shape[1]:
            made[y, x] ^= 1
        size = int(rng.integers(3, 10))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        operation = cv2.dilate if rng.random() < 0.5 else cv2.erode
        window[...] = operation(window, kernel, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(made != 0)


def _thinned_contour(mask: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Drop a run of each outline, keep about a tenth of its vertices, fill what is left."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    holes = cv2.bitwise_xor(mask, _filled(mask))
    made = np.zeros_like(mask)
    for contour in contours:
        points = contour.reshape(-1, 2)
        if len(points) < 12:
            cv2.fillPoly(made, [points], 1)
            continue
        points = np.roll(points, -int(rng.integers(len(points))), axis=0)
        points = points[int(len(points) * rng.uniform(0.0, 0.1)) :]
        step = max(1, min(10, len(points) // 12))
        chosen = np.sort(rng.choice(len(points), max(6, len(points) // step), replace=False))
        cv2.fillPoly(made, [points[chosen]], 1)
    return np.asarray(cv2.subtract(made, holes))


def _filled(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED), dtype=np.uint8)


def _iou(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def _exact(mask: NDArray[np.uint8], rng: np.random.Generator, frame: int) -> Mask:
    return np.asarray(mask != 0)


def _shift(mask: NDArray[np.uint8], rng: np.random.Generator, frame: int) -> Mask:
    """Letterbox and rounding slips: the whole mask half a pixel to four pixels off."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 4.0)
    move = np.array([[1, 0, distance * np.cos(angle)], [0, 1, distance * np.sin(angle)]])
    moved = cv2.warpAffine(mask.astype(np.float32), move, mask.shape[::-1], flags=cv2.INTER_LINEAR)
    return np.asarray(moved > 0.5)


def _swell(mask: NDArray[np.uint8], rng: np.random.Generator, frame: int) -> Mask:
    """A segmenter that is always too generous or too tight, and rounds corners off."""
    sigma = rng.uniform(0.8, 4.0)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)
    return np.asarray(soft > rng.uniform(0.2, 0.8))


def _specks(mask: NDArray[np.uint8], rng: np.random.Generator, frame: int) -> Mask:
    """A slightly wrong edge with holes inside and specks outside."""
    made = _SUBTLE[int(rng.integers(len(_SUBTLE)))](mask, rng, frame).astype(np.uint8)
    rows, columns = np.nonzero(cv2.dilate(mask, np.ones((15, 15), np.uint8)))
    for _ in range(int(rng.integers(1, 8))):
        at = int(rng.integers(len(rows)))
        axes = (int(rng.integers(1, 6)), int(rng.integers(1, 6)))
        value = int(1 - made[rows[at], columns[at]])
        cv2.ellipse(made, (int(columns[at]), int(rows[at])), axes, float(rng.uniform(0, 180)), 0, 360, value, -1)
    return np.asarray(made != 0)


_SUBTLE: tuple[Callable[..., Mask], ...] = (_exact, _yolo, _rcnn28, _swell)

_MAKERS: dict[str, Callable[[NDArray[np.uint8], np.random.Generator, int], Mask]] = {
    "rcnn28": _rcnn28,
    "yolo": _yolo,
    "polygon": _polygon,
    "warp": _warp,
    "perturb": _perturb,
    "exact": _exact,
    "shift": _shift,
    "swell": _swell,
    "specks": _specks,
    "grid": _grid,
    "drift": _drift,
}
