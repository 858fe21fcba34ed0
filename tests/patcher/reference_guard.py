"""What the guard looks at once more, plainly: whole maps of the region by OpenCV and NumPy, every pixel labelled."""

from __future__ import annotations

import cv2
import numpy as np

SQUARE = np.ones((3, 3), np.uint8)
FLAT = 2.0


def distances(mask: np.ndarray) -> np.ndarray:
    """Distance in px of each pixel to the nearest one of the other value, float32 [h, w], correctly rounded."""
    mask = np.ascontiguousarray(mask)
    both = [cv2.distanceTransform(m, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64) for m in (mask, 1 - mask)]
    # OpenCV's root may be wrong in its last bit; its square is a whole number.
    return np.sqrt(np.round(np.maximum(*both) ** 2)).astype(np.float32)


def edge_strength(image: np.ndarray) -> np.ndarray:
    """Grey levels per px across the image's edges, of the strongest channel, float32 [h, w] of RGB uint8 [h, w, 3]."""
    strongest = np.zeros(image.shape[:2], np.float32)
    for channel in cv2.split(image):
        smooth = cv2.GaussianBlur(channel, (3, 3), 0)
        across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
        down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
        # Not cv2.magnitude, whose last bit depends on where in memory a pixel lies.
        strongest = np.maximum(strongest, np.sqrt(across * across + down * down))
    return strongest


def without_fragments(after: np.ndarray, before: np.ndarray, pinhole: int) -> np.ndarray:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(after, connectivity=8)
    if count <= 2:
        return after
    sizes = stats[:, cv2.CC_STAT_AREA]
    kept = np.bincount(labels[before > 0], minlength=count) > 0
    whole = cv2.connectedComponentsWithStats(before, connectivity=8)
    own = whole[2][whole[1], cv2.CC_STAT_AREA] > pinhole
    cut_off = np.bincount(labels[(before > 0) & own], minlength=count) > 0
    kept &= ~((sizes <= pinhole) & cut_off)
    kept[0] = False
    return kept[labels].astype(np.uint8)


def without_pinholes(after: np.ndarray, before: np.ndarray, pinhole: int) -> np.ndarray:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - after, connectivity=4)
    was_open = np.bincount(labels[before == 0], minlength=count) > 0
    at_border = np.zeros(count, bool)
    for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        at_border[line] = True
    fill = (stats[:, cv2.CC_STAT_AREA] <= pinhole) & ~was_open & ~at_border
    fill[0] = False
    return after | fill[labels].astype(np.uint8)


def without_cuts(after: np.ndarray, before: np.ndarray, distance: np.ndarray, pinhole: int, thin: float) -> np.ndarray:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(after, connectivity=8)
    large = set(np.flatnonzero(stats[:, cv2.CC_STAT_AREA] > pinhole)) - {0}
    found = after.copy()
    taken = before & (1 - after)
    count, regions = cv2.connectedComponents(taken, connectivity=8)
    for n in range(1, count):
        region = (regions == n).astype(np.uint8)
        beside = set(np.unique(labels[cv2.dilate(region, SQUARE) > 0])) & large
        if len(beside) > 1 and distance[region > 0].max() <= thin:
            found |= region
    return found


def changes(
    before: np.ndarray,
    after: np.ndarray,
    distance: np.ndarray,
    mean: np.ndarray,
    spread: np.ndarray,
    strength: np.ndarray,
) -> dict[str, np.ndarray]:
    """The fields of `Changes`, from maps [h, w]; sums row by row, so that they can be compared bit for bit."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(before ^ after, connectivity=8)
    where = labels > 0
    found = labels[where]
    side = 1.0 - 2.0 * before[where]
    around = cv2.dilate(labels.astype(np.float32), SQUARE).astype(np.int32)

    def means(of: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.bincount(of, values, count)[1:] / np.maximum(np.bincount(of, minlength=count)[1:], 1)

    def along(mask: np.ndarray) -> np.ndarray:
        outline = (cv2.dilate(mask, SQUARE) != cv2.erode(mask, SQUARE)) & (around > 0)
        return means(around[outline], strength[outline].astype(np.float64))

    return {
        "labels": labels,
        "size": stats[1:, cv2.CC_STAT_AREA],
        "depth": np.array([distance[labels == n].max() for n in range(1, count)], np.float64),
        "certainty": means(found, side * (2.0 * np.nan_to_num(mean[where], nan=0.5).astype(np.float64) - 1.0)),
        "spread": means(found, np.nan_to_num(spread[where]).astype(np.float64)),
        "growth": means(found, side),
        "support": np.log((along(after) + FLAT) / (along(before) + FLAT)),
    }
