"""How well a mask fits the truth: IoU, boundary F, mBA. Pure geometry on dense masks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.generic]
"""bool, or integers of which 0 is background: [H, W]."""
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
MBA_BANDS = 5


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks [H, W]; 1 when both are empty."""
    one, two = _binary(a), _binary(b)
    union = np.count_nonzero(one | two)
    return np.count_nonzero(one & two) / union if union else 1.0


def boundary(mask: Mask) -> NDArray[np.uint8]:
    """Mask pixels with a 4-neighbour outside the mask, uint8 [H, W]; beyond the frame counts as outside."""
    binary = _binary(mask)
    return np.asarray(binary & (1 - cv2.erode(binary, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)), np.uint8)


def boundary_f(mask: Mask, truth: Mask, radius: int) -> float:
    """Boundary F-measure: harmonic mean of the two shares of boundary pixels within `radius` px of the other boundary.

    As in DAVIS (Perazzi et al., CVPR 2016, section 4.1), matched by dilation with a disk.

    Args:
        mask: [H, W].
        truth: [H, W].
        radius: tolerance in px (Euclidean).

    Returns:
        0 to 1; 1 when both are empty, 0 when one is.
    """
    ours, theirs = boundary(mask), boundary(truth)
    count, wanted = np.count_nonzero(ours), np.count_nonzero(theirs)
    if not count or not wanted:
        return 1.0 if count == wanted else 0.0
    disk = _disk(radius)
    precision = np.count_nonzero(ours & cv2.dilate(theirs, disk)) / count
    recall = np.count_nonzero(theirs & cv2.dilate(ours, disk)) / wanted
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def mba(mask: Mask, truth: Mask, *, frame: tuple[int, int] | None = None) -> float:
    """Mean boundary accuracy (CascadePSP, Cheng et al., CVPR 2020, section 4.1).

    Accuracy of the mask inside five bands around the true boundary, the morphological gradient of the truth with disks
    of radius 1 to (w + h) / 300 px, averaged.

    Args:
        mask: [H, W].
        truth: [H, W].
        frame: (height, width) of the image when the masks are crops of it.

    Returns:
        0 to 1; 1 when the truth has no boundary.
    """
    wrong, true = _binary(mask) != _binary(truth), _binary(truth)
    height, width = frame if frame is not None else true.shape
    largest = max(1.0, (height + width) / 300)
    scores = []
    for radius in np.linspace(1, largest, MBA_BANDS):
        disk = _disk(int(radius))
        band = cv2.dilate(true, disk) != cv2.erode(true, disk)
        inside = np.count_nonzero(band)
        if inside:
            scores.append(1 - np.count_nonzero(wrong & band) / inside)
    return float(np.mean(scores)) if scores else 1.0


def instance_metrics(mask: Mask, truth: Mask, *, frame: tuple[int, int] | None = None) -> dict[str, float]:
    """`iou`, `f1px`, `f3px` and `mba` of one instance; `frame` as in `mba`."""
    return {
        "iou": iou(mask, truth),
        "f1px": boundary_f(mask, truth, 1),
        "f3px": boundary_f(mask, truth, 3),
        "mba": mba(mask, truth, frame=frame),
    }


def _binary(mask: Mask) -> NDArray[np.uint8]:
    return np.asarray(np.asarray(mask) != 0).view(np.uint8)


def _disk(radius: int) -> NDArray[np.uint8]:
    """All offsets at a Euclidean distance of at most `radius`."""
    span = np.arange(-radius, radius + 1)
    return (span[:, None] ** 2 + span[None, :] ** 2 <= radius**2).astype(np.uint8)
