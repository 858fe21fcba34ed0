"""Kernels of the polygon rasterisation; `polygons` states the rule they follow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._jit import compiled, whole

_NONE = -(2**40)


@compiled
def _columns(xa: int, xb: int, width: int) -> tuple[int, int]:
    """Pixel columns (first, end) within the frame whose middle may lie between two x in fifths of a pixel."""
    low, high = min(xa, xb), max(xa, xb)
    return max((low + 2) // 5, 0), min((high - 3) // 5 + 1, width)


@compiled
def count_passings(vertices: NDArray[np.int64], ends: NDArray[np.int64], width: int) -> int:
    """How many passings the parts have at most; part p ends before vertex ends[p]."""
    total = 0
    begin = 0
    for part in range(ends.size):
        for i in range(begin, ends[part]):
            following = i + 1 if i + 1 < ends[part] else begin
            first, end = _columns(vertices[i, 0], vertices[following, 0], width)
            total += max(end - first, 0)
        begin = ends[part]
    return total


@compiled
def _flat_passing(xa: int, ya: int, xb: int, yb: int, middle: int) -> int:
    """Smaller y of the step from x = middle to middle + 1 of an edge that is at least as wide as high."""
    t = middle - xa
    if t < 0 or middle + 1 > xb:
        return _NONE
    slope = np.float64(yb - ya) / np.float64(xb - xa)
    here = whole(ya + slope * t + 0.5)
    there = whole(ya + slope * (t + 1) + 0.5)
    return min(here, there)


@compiled
def _steep_passing(xa: int, ya: int, xb: int, yb: int, middle: int) -> int:
    """Smaller y of the step on which an edge higher than wide passes between x = middle and middle + 1."""
    slope = np.float64(xb - xa) / np.float64(yb - ya)
    last = yb - ya
    rising = xb > xa
    # Smallest t that lies beyond the passing; the estimate is at most a step or two off.
    t = min(max(whole((middle + 0.5 - xa) / slope), 0), last)
    while t > 0 and (whole(xa + slope * (t - 1) + 0.5) > middle) == rising:
        t -= 1
    while t <= last and (whole(xa + slope * t + 0.5) > middle) != rising:
        t += 1
    if t == 0 or t > last:
        return _NONE
    return ya + t - 1


@compiled
def list_passings(
    vertices: NDArray[np.int64],
    ends: NDArray[np.int64],
    height: int,
    width: int,
    passings: NDArray[np.int64],
    owners: NDArray[np.int64],
) -> None:
    """Write where columns change sides as pixel numbers; part p owns passings[owners[p] : owners[p + 1]]."""
    n = 0
    begin = 0
    for part in range(ends.size):
        for i in range(begin, ends[part]):
            following = i + 1 if i + 1 < ends[part] else begin
            xa, ya = vertices[i, 0], vertices[i, 1]
            xb, yb = vertices[following, 0], vertices[following, 1]
            dx, dy = abs(xb - xa), abs(yb - ya)
            if dx == 0:
                continue
            # The rule walks every edge in the direction of its longer axis.
            if (dx >= dy and xa > xb) or (dx < dy and ya > yb):
                xa, ya, xb, yb = xb, yb, xa, ya
            first, end = _columns(xa, xb, width)
            for column in range(first, end):
                middle = 5 * column + 2
                y = _flat_passing(xa, ya, xb, yb, middle) if dx >= dy else _steep_passing(xa, ya, xb, yb, middle)
                if y != _NONE:
                    passings[n] = column * height + min((max(y, 0) + 2) // 5, height)
                    n += 1
        begin = ends[part]
        owners[part + 1] = n


@compiled
def spans(
    passings: NDArray[np.int64], owners: NDArray[np.int64], pixels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Foreground runs of all parts: first pixels and ends. Between sorted passings the sides alternate."""
    starts = np.empty(passings.size, np.int64)
    stops = np.empty(passings.size, np.int64)
    n = 0
    for part in range(owners.size - 1):
        for i in range(owners[part], owners[part + 1], 2):
            stop = passings[i + 1] if i + 1 < owners[part + 1] else pixels
            if passings[i] < stop:
                starts[n] = passings[i]
                stops[n] = stop
                n += 1
    return starts[:n], stops[:n]


@compiled
def union(starts: NDArray[np.int64], stops: NDArray[np.int64], pixels: int) -> NDArray[np.uint32]:
    """Canonical runs of the union of spans, given their first pixels and their ends, each sorted."""
    runs = np.empty(2 * starts.size + 1, np.uint32)
    used = 0
    written = 0
    i, n = 0, starts.size
    while i < n:
        begin = starts[i]
        # Sorted apart, the i-th end closes the union as soon as the next span begins beyond it.
        while i + 1 < n and starts[i + 1] <= stops[i]:
            i += 1
        runs[used] = begin - written
        runs[used + 1] = stops[i] - begin
        used += 2
        written = stops[i]
        i += 1
    if written < pixels or used == 0:
        runs[used] = pixels - written
        used += 1
    return runs[:used].copy()
