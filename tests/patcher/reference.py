"""The geometry once more, plainly: whole frames, NumPy only, nothing taken from maskmend. Slow and easy to check."""

from __future__ import annotations

import cv2
import numpy as np

MEAN = np.array([123.675, 116.28, 103.53])
STD = np.array([58.395, 57.12, 57.375])


def scores(mask: np.ndarray) -> np.ndarray:
    """min(s, 9 - s) of the 3x3 sum s with zeros around the frame, int [H, W]."""
    padded = np.pad(mask.astype(int), 1)
    h, w = mask.shape
    total = sum(padded[dy : dy + h, dx : dx + w] for dy in range(3) for dx in range(3))
    return np.minimum(total, 9 - total)


def finalise(word: int) -> int:
    """MurmurHash3's 32-bit finaliser, in Python's own integers."""
    word ^= word >> 16
    word = word * 0x85EBCA6B % 2**32
    word ^= word >> 13
    word = word * 0xC2B2AE35 % 2**32
    return word ^ (word >> 16)


def ranked(mask: np.ndarray, ties: str, seed: int) -> np.ndarray:
    """Boundary pixels (x, y), best first."""
    score = scores(mask)
    found = [(int(x), int(y), int(score[y, x])) for y, x in np.argwhere(score > 0)]
    if ties == "raster":
        found.sort(key=lambda p: (-p[2], p[1], p[0]))
    else:
        salt = finalise(seed ^ 0x27D4EB2F)
        found.sort(key=lambda p: (-p[2], finalise((p[1] * 65536 + p[0]) ^ salt)))
    return np.array([p[:2] for p in found], int).reshape(-1, 2)


def suppress(pixels: np.ndarray, patch: int, nms: float) -> np.ndarray:
    """Greedy suppression by pairwise IoU; the pixels kept, in order."""
    kept = []
    while len(pixels):
        best, pixels = pixels[0], pixels[1:]
        kept.append(best)
        sides = np.maximum(patch - np.abs(pixels - best), 0)
        shared = sides[:, 0] * sides[:, 1]
        pixels = pixels[shared / (2 * patch * patch - shared) < nms]
    return np.array(kept, int).reshape(-1, 2)


def shifted(pixels: np.ndarray, shape: tuple[int, int], patch: int, border: str) -> np.ndarray:
    """Boxes around the pixels kept, moved into the frame."""
    boxes = []
    for x, y in pixels:
        corner = []
        for start, side in ((x - patch // 2, shape[1]), (y - patch // 2, shape[0])):
            if start < 0:
                start = 0
            if border == "reference" and start + patch >= side:
                start = max(side - 1 - patch, 0)
            if border == "exact" and start + patch > side:
                start = max(side - patch, 0)
            corner.append(start)
        boxes.append([corner[0], corner[1], corner[0] + patch, corner[1] + patch])
    return np.array(boxes, np.int32).reshape(-1, 4)


def boxes(
    mask: np.ndarray, patch: int = 64, nms: float = 0.25, ties: str = "hash", border: str = "exact", seed: int = 0
):
    return shifted(suppress(ranked(mask, ties, seed), patch, nms), mask.shape, patch, border)


def reassembled(mask: np.ndarray, found: np.ndarray, probabilities: np.ndarray, mean: str) -> np.ndarray:
    """Sums and counts on a frame large enough for every box, then the quotient."""
    h, w = mask.shape
    room = 1200
    total = np.zeros((h + 2 * room, w + 2 * room))
    count = np.zeros_like(total)
    for (x0, y0, x1, y1), values in zip(found, probabilities, strict=True):
        values = values.astype(np.float64)
        if mean == "logit":
            values = np.clip(values, 1e-6, 1 - 1e-6)
            values = np.log(values / (1 - values))
        total[room + y0 : room + y1, room + x0 : room + x1] += values
        count[room + y0 : room + y1, room + x0 : room + x1] += 1
    total, count = (a[room : room + h, room : room + w] for a in (total, count))
    average = total / np.maximum(count, 1)
    return np.where(count > 0, average > (0.5 if mean == "probability" else 0.0), mask != 0)


def patches(image: np.ndarray, mask: np.ndarray, found: np.ndarray, size: int, padding: int) -> np.ndarray:
    """Crops from a frame padded on all sides, resized by OpenCV in float32."""
    room = 800
    wide = cv2.copyMakeBorder(image, room, room, room, room, cv2.BORDER_REPLICATE)
    cue = np.pad((mask != 0).astype(np.uint8), room)
    out = np.empty((len(found), 4, size, size), np.float32)
    for n, (x0, y0, x1, y1) in enumerate(found):
        rows = slice(room + y0 - padding, room + y1 + padding)
        columns = slice(room + x0 - padding, room + x1 + padding)
        colour = cv2.resize(wide[rows, columns].astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
        out[n, :3] = ((colour - MEAN) / STD).transpose(2, 0, 1)
        side = x1 - x0 + 2 * padding
        nearest = np.arange(size) * side // size
        out[n, 3] = 2.0 * cue[rows, columns][nearest][:, nearest] - 1.0
    return out


def random_mask(rng: np.random.Generator, largest: int = 200) -> np.ndarray:
    """A mask of one of many kinds, bool [H, W], both sides from 1 to `largest`."""
    h, w = (int(side) for side in rng.integers(1, largest + 1, 2))
    kind = rng.integers(10)
    if kind == 0:
        h, w = (int(side) for side in rng.integers(1, 12, 2))
        return rng.random((h, w)) < 0.5
    if kind == 1:
        return rng.random((h, w)) < rng.choice([0.002, 0.05, 0.5, 0.95])
    if kind == 2:
        return np.full((h, w), bool(rng.integers(2)))
    mask = np.zeros((h, w), np.uint8)
    if kind == 3:
        mask[rng.integers(h), rng.integers(w)] = 1
    elif kind == 4:
        for _ in range(rng.integers(1, 5)):
            ends = rng.integers(-20, largest + 20, 4)
            cv2.line(mask, ends[:2].tolist(), ends[2:].tolist(), 1, int(rng.integers(1, 6)))
    elif kind == 5:
        y, x = rng.integers(h), rng.integers(w)
        mask[y : y + rng.integers(1, h + 1), x : x + rng.integers(1, w + 1)] = 1
    elif kind == 6:
        cv2.circle(mask, (w // 2, h // 2), max(min(h, w) // 2 - 1, 1), 1, -1)
        cv2.circle(mask, (w // 2, h // 2), max(min(h, w) // 4, 1), 0, -1)
    else:
        soft = cv2.GaussianBlur(rng.standard_normal((h, w)).astype(np.float32), (0, 0), float(rng.uniform(1.5, 15)))
        mask[soft > rng.normal(0, 0.5) * soft.std()] = 1
    return mask.astype(bool)
