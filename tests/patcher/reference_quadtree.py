"""The quadtree once more, plainly: one cell after the other, in Python's own numbers, nothing taken from maskmend."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

Grid = list[list]


def halved_nearest(grid: Grid) -> Grid:
    """The top-left value of each 2x2 block."""
    return [row[::2] for row in grid[::2]]


def doubled_nearest(grid: Grid) -> Grid:
    return [[value for value in row for _ in range(2)] for row in grid for _ in range(2)]


def incoherent_by_equation(mask: Grid) -> Grid:
    """Eq. 1 step by step: smaller, larger, XOR, OR over 2x2."""
    back = doubled_nearest(halved_nearest(mask))
    half = range(len(mask) // 2)
    differs = [[a != b for a, b in zip(*rows, strict=True)] for rows in zip(mask, back, strict=True)]
    return [[any(differs[2 * r + i][2 * c + j] for i, j in product((0, 1), repeat=2)) for c in half] for r in half]


def incoherent_by_pooling(mask: Grid) -> Grid:
    """Whether the largest value of a 2x2 block is not the smallest."""
    half = range(len(mask) // 2)
    blocks = [[[mask[2 * r + i][2 * c + j] for i in (0, 1) for j in (0, 1)] for c in half] for r in half]
    return [[max(block) != min(block) for block in row] for row in blocks]


def interpolated(grid: Grid, side: int) -> list[list[Fraction]]:
    """Bilinear, half-pixel centres, border repeated, in exact fractions."""
    size = len(grid)

    def at(place: int) -> list[tuple[int, Fraction]]:
        centre = max((Fraction(place) + Fraction(1, 2)) * size / side - Fraction(1, 2), Fraction(0))
        first = int(centre)
        return [(first, 1 - (centre - first)), (min(first + 1, size - 1), centre - first)]

    return [
        [sum(Fraction(grid[r][c]) * u * v for r, u in at(y) for c, v in at(x)) for x in range(side)]
        for y in range(side)
    ]


def residual(mask: Grid) -> list[list[Fraction]]:
    side = len(mask)
    back = interpolated(interpolated(mask, side // 2), side)
    lost = [[abs(a - b) for a, b in zip(*rows, strict=True)] for rows in zip(mask, back, strict=True)]
    return interpolated(lost, side // 2)


def incoherent_bilinear(mask: Grid) -> Grid:
    return [[value >= Fraction(1, 100) for value in row] for row in residual(mask)]


def sampled(mask: Grid, levels: int) -> list[Grid]:
    finest = [[Fraction(1) if value >= Fraction(1, 100) else value for value in row] for row in residual(mask)]
    maps = []
    for level in range(levels):
        step = 2**level
        cells = range(len(finest) // step)
        means = [
            [sum(finest[step * r + i][step * c + j] for i in range(step) for j in range(step)) / step**2 for c in cells]
            for r in cells
        ]
        maps.append([[mean >= Fraction(1, 20) for mean in row] for row in means])
    return maps


def tree(maps: list[Grid]) -> list[list[tuple[int, int]]]:
    """Nodes per level: those cells whose every ancestor's map, and their own, says so."""
    found = []
    for level, cells in enumerate(maps):
        side = range(len(cells))
        said = [
            (r, c)
            for r in side
            for c in side
            if all(maps[upper][r >> (level - upper)][c >> (level - upper)] for upper in range(level + 1))
        ]
        found.append(said)
    return found


def slots(scores: list[Grid], k: list[int], thresholds: list[float]) -> list[list[tuple[int, bool]]]:
    """(raster index, valid) of each level's slots."""
    levels: list[list[tuple[int, bool]]] = []
    for level, (grid, most, threshold) in enumerate(zip(scores, k, thresholds, strict=True)):
        side = len(grid)
        if level == 0:
            candidates = [(r, c, True) for r in range(side) for c in range(side)]
        else:
            parents = [(*divmod(index, side // 2), valid) for index, valid in levels[-1]]
            candidates = [(2 * r + i, 2 * c + j, valid) for r, c, valid in parents for i in (0, 1) for j in (0, 1)]
        keen = [(grid[r][c], -n, r * side + c) for n, (r, c, ok) in enumerate(candidates) if ok]
        keen = [entry for entry in keen if entry[0] >= threshold and entry[0] > float("-inf")]
        best = sorted(keen, reverse=True)[:most]
        levels.append([(index, True) for _, _, index in best] + [(0, False)] * (most - len(best)))
    return levels


def propagated(start: Grid, nodes: list[dict[tuple[int, int], float]], upsampling: str, inner: bool) -> Grid:
    """Node values (by row and column) written over the map of each level, the map doubled in between."""
    grid = [list(row) for row in start]
    for level, values in enumerate(nodes):
        if level:
            grid = doubled_nearest(grid) if upsampling == "nearest" else interpolated(grid, 2 * len(grid))
        if inner or level == len(nodes) - 1:
            for (r, c), value in values.items():
                grid[r][c] = value
    return grid
