from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from maskmend.patcher import MaskError, polygons, polygons_to_rle

coordinate = st.one_of(
    st.integers(-30, 120).map(float),
    st.integers(-60, 240).map(lambda v: v / 2),
    st.integers(-300, 1200).map(lambda v: v / 10),
    st.floats(-30, 120, allow_nan=False, width=32),
    st.floats(-3000, 3000, allow_nan=False),
)
vertex = st.tuples(coordinate, coordinate)


@st.composite
def polygon(draw):
    vertices = draw(st.lists(vertex, min_size=3, max_size=12))
    if draw(st.booleans()):
        vertices.append(vertices[0])
    if draw(st.booleans()):
        vertices.insert(1, vertices[0])
    return [c for v in vertices for c in v]


def foreign(polygons, height, width):
    """What COCO's own tools make of polygons."""
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return {"size": list(merged["size"]), "counts": merged["counts"].decode()}


@settings(max_examples=500, deadline=None)
@given(st.lists(polygon(), min_size=1, max_size=5), st.integers(1, 110), st.integers(1, 110))
def test_polygons_agree_with_coco(polygons, height, width):
    assert polygons_to_rle(polygons, height, width).to_coco() == foreign(polygons, height, width)


def test_long_outlines_agree_with_coco():
    rng = np.random.default_rng(2)
    for _ in range(60):
        angle = np.linspace(0, 2 * np.pi, int(rng.integers(20, 2000)), endpoint=False)
        radius = rng.uniform(20, 600) * (1 + 0.2 * np.cos(rng.integers(2, 30) * angle)) + rng.normal(0, 1, angle.size)
        outline = np.stack([400 + radius * np.cos(angle), 300 + radius * np.sin(angle)], 1)
        outline = np.round(outline, int(rng.integers(0, 4)))
        parts = [outline.ravel().tolist(), (outline + rng.uniform(-100, 100, 2)).ravel().tolist()]
        assert polygons_to_rle(parts, 600, 800).to_coco() == foreign(parts, 600, 800)


def test_kinds_of_numbers_and_parts():
    square = [1, 1, 9, 1, 9, 9, 1, 9]
    expected = polygons_to_rle([square], 10, 12)
    assert expected.area == 64
    for same in (np.array(square), np.array(square, np.float32), [np.float64(v) for v in square], tuple(square)):
        assert polygons_to_rle([same], 10, 12) == expected
    assert polygons_to_rle([square] * 3, 10, 12) == expected


def test_polygons_that_cover_nothing():
    for line in ([5, 5] * 3, [0, 0, 9, 9, 0, 0], [100, 100, 200, 100, 200, 200]):
        assert polygons_to_rle([line], 10, 10).area == 0


@pytest.mark.parametrize(
    "polygons",
    [
        [],
        None,
        "polygon",
        [[]],
        [None],
        [5, 5, 6, 6, 7, 7],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, float("inf")]],
        [[1, 2, 3, 4, 5, -float("inf")]],
        [[1, 2, 3, 4, 5, 1e18]],
        [[1, 2, 3, 4, 5, -1.1e6]],
        [[1, 2, 3, 4, 5, 10**400]],
        [[1, 2, 3, 4, 5, True]],
        [[1, 2, 3, 4, 5, None]],
        [[1, 2, 3, 4, 5, "6"]],
        [[1, 2, 3, 4, 5, 6j]],
        [[1, 2, 3, 4, 5, Decimal(6)]],
        [[[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]],
        [np.zeros((3, 2))],
        [np.array([1, 2, 3, 4, 5, 6], complex)],
        [[0.5] * 1_000_000],
        [[0, 0, 4, 0, 4, 4]] * 166_667,
    ],
)
def test_hostile_polygons_are_refused(polygons):
    with pytest.raises(MaskError) as caught:
        polygons_to_rle(polygons, 20, 20, field="masks[1]")
    assert caught.value.field.startswith("masks[1]")
    assert len(str(caught.value)) < 300


def test_an_outline_that_saws_across_a_wide_frame_is_refused_before_memory_is_taken():
    saw = [v for i in range(1000) for v in (0.0 if i % 2 else 60_000.0, float(i))]
    with pytest.raises(MaskError, match="simplify"):
        polygons_to_rle([saw], 1000, 60_000)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (-1, 5), (5.0, 5), (True, 5), (200_000, 200_000), (None, 5)])
def test_hostile_frames_are_refused(height, width):
    with pytest.raises(MaskError) as caught:
        polygons_to_rle([[0, 0, 4, 0, 4, 4]], height, width)
    assert caught.value.field == "size"


def test_limits_of_numbers_and_not_one_more(monkeypatch):
    triangle = [0, 0, 4, 0, 4, 4]
    for far in (1e6, -1e6):
        assert polygons_to_rle([triangle, [0, 0, 4, 0, 4, far]], 9, 9).area >= 6
        with pytest.raises(MaskError, match="beyond") as caught:
            polygons_to_rle([triangle, [0, 0, 4, 0, 4, far * 1.000001]], 9, 9, field="mask")
        assert caught.value.field == "mask[1]"
    monkeypatch.setattr(polygons, "MAX_COORDINATES", 13)
    assert polygons_to_rle([triangle] * 2, 9, 9) == polygons_to_rle([triangle], 9, 9)
    monkeypatch.setattr(polygons, "MAX_COORDINATES", 12)
    with pytest.raises(MaskError, match="12 coordinates or more") as caught:
        polygons_to_rle([triangle] * 2, 9, 9, field="mask")
    assert caught.value.field == "mask"


def test_the_most_passings_and_not_one_more(monkeypatch):
    # Two sides pass the middles of columns 0 to 3, the third stands upright.
    triangle = [0, 0, 4, 0, 4, 4]
    monkeypatch.setattr(polygons, "MAX_PASSINGS", 8)
    assert polygons_to_rle([triangle], 9, 9).area == 6
    monkeypatch.setattr(polygons, "MAX_PASSINGS", 7)
    with pytest.raises(MaskError, match="to and fro") as caught:
        polygons_to_rle([triangle], 9, 9, field="mask")
    assert caught.value.field == "mask"
    # What lies outside the frame is not counted.
    assert polygons_to_rle([triangle], 9, 3).area == 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 5)])
def test_steep_flat_and_slanted_edges_agree_with_coco(shape):
    rng = np.random.default_rng(shape)
    for _ in range(120):
        scale = rng.choice([1, 2, 5, 10, 1000])
        vertices = rng.integers(-3 * scale, 12 * scale, (int(rng.integers(3, 6)), 2)) / scale
        if rng.random() < 0.5:
            # Needles: nearly upright, nearly level, or both at once.
            vertices[:, int(rng.integers(2))] = vertices[0, 0] + rng.integers(-2, 3, len(vertices)) / 5
        part = vertices.ravel().tolist()
        assert polygons_to_rle([part], *shape).to_coco() == foreign([part], *shape)


def test_parts_side_by_side_touching_and_within_each_other():
    def block(x0, y0, x1, y1):
        return [x0, y0, x1, y0, x1, y1, x0, y1]

    for parts in (
        [block(0, 0, 4, 4), block(4, 0, 8, 4)],
        [block(0, 0, 4, 4), block(0, 4, 4, 8)],
        [block(0, 0, 8, 8), block(2, 2, 6, 6)],
        [block(5, 5, 8, 8), block(0, 0, 3, 3), block(1, 1, 6, 6)],
        [block(0, 0, 9, 10), block(0, 9, 9, 10)],
        [block(3, 0, 4, 20), block(5, -9, 6, 20)],
    ):
        assert polygons_to_rle(parts, 10, 9).to_coco() == foreign(parts, 10, 9)
