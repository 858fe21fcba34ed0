"""The experiments of the papers: what must hold on any data, and the commands on the sample."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from benchmark_scripts import loader
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.patcher import Rle
from maskmend.patcher.boundary import boundary_pixels

REPOSITORY = Path(__file__).parents[2]
SAMPLE = ["--gt", str(REPOSITORY / "samples" / "instances.json"), "--images", str(REPOSITORY / "samples" / "images")]


load = loader("papers")
regions, oracles = load("boundary_regions"), load("oracles")


def tables(text: str) -> list[list[dict[str, str]]]:
    """Every Markdown table as rows by column; each must have as many cells as its head."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        if not lines:
            continue
        rows = [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines]
        assert all(set(cell) == {"-"} for cell in rows[1])
        assert {len(row) for row in rows} == {len(rows[0])}
        found.append([dict(zip(rows[0], row, strict=True)) for row in rows[2:]])
    return found


def blob(seed: int, side: int = 40) -> np.ndarray:
    """A ragged random shape that touches the frame here and there, bool [side, side]."""
    noise = np.random.default_rng(seed).standard_normal((side, side))
    return cv2.GaussianBlur(noise, (0, 0), 1 + seed % 4) > 0


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_the_convolution_is_that_of_the_network(width: int, share: float) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from maskmend.models.refinemask import boundary_region

    side = 2 * width + 1
    for seed in range(12):
        mask = blob(seed)
        wanted = boundary_region(torch.from_numpy(mask)[None, None], width, share=share)[0, 0].numpy()
        got = regions.convolution_region(mask, width, share=share)
        # Where the response is the share itself, rounding decides over there.
        seen = cv2.boxFilter(np.ones((40, 40)), -1, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)
        inside = cv2.boxFilter(mask * 1.0, -1, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)
        tie = np.isclose(np.where(mask, seen - inside, inside), share * seen) & (share > 0)
        assert np.array_equal(got[~tie], wanted[~tie])
        assert tie.mean() < 0.05


@pytest.mark.parametrize("frame", ["neither", "background"])
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("distance", list(regions.DISTANCES))
def test_exact_regions_against_plain_reckoning(distance: str, width: int, frame: str) -> None:
    mask = blob(5, 14)
    room = 4 if frame == "background" else 0
    wide = np.pad(mask, room)
    cells = list(np.ndindex(wide.shape))
    kind, metric = distance.split(", ")

    def outside(y: int, x: int) -> bool:
        places = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        return any(0 <= b < len(wide) and 0 <= a < len(wide) and not wide[b, a] for b, a in places)

    contour = [cell for cell in cells if wide[cell] and outside(*cell)]
    wanted = np.zeros_like(wide)
    for cell in cells:
        others = contour if kind == "contour" else [other for other in cells if wide[other] != wide[cell]]
        for other in others:
            steps = [abs(a - b) - (0.5 if kind == "edge" and a != b else 0) for a, b in zip(cell, other, strict=True)]
            length = math.hypot(*steps) if metric == "Euclidean" else max(steps)
            wanted[cell] |= length <= width
    inner = slice(room, len(wide) - room)
    assert np.array_equal(regions.exact_region(mask, width, distance, frame), wanted[inner, inner])


@given(st.integers(0, 10**6), st.sampled_from([1, 2]), st.sampled_from(list(regions.FRAMES)))
@settings(max_examples=25, deadline=None)
def test_the_paper_s_convolution_is_a_distance(seed: int, width: int, frame: str) -> None:
    mask = blob(seed, 24)
    found = regions.convolution_region(mask, width, frame=frame)
    assert np.array_equal(found, regions.exact_region(mask, width, "other, Chebyshev", frame))
    # A circle lies in the square around it.
    assert not (regions.exact_region(mask, width, "other, Euclidean", frame) & ~found).any()


@pytest.mark.parametrize("width", [1, 2])
def test_a_straight_edge_is_the_same_by_both(width: int) -> None:
    mask = np.zeros((20, 20), bool)
    mask[:9] = True
    found = regions.convolution_region(mask, width)
    for distance in ("other, Euclidean", "other, Chebyshev", "edge, Euclidean"):
        assert np.array_equal(regions.exact_region(mask, width, distance, "neither"), found)
    assert np.array_equal(found.any(1).nonzero()[0], np.arange(9 - width, 9 + width))
    # Cells of the contour lie on one side: a row more on theirs.
    one_sided = regions.exact_region(mask, width, "contour, Euclidean", "neither")
    assert np.array_equal(one_sided.any(1).nonzero()[0], np.arange(8 - width, 9 + width))


def test_boundary_regions_of_the_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert regions.main(SAMPLE[:2]) == 0
    text = capsys.readouterr().out
    assert text.startswith("89 instances")
    readings, nearest = tables(text)
    assert len(readings) == 20
    for row in readings:
        figures = [float(value) for key, value in row.items() if " at " in key]
        assert len(figures) == 6
        assert all(0 < figure <= 1 for figure in figures)
        if row["distance to the contour"] == "other value, Chebyshev":
            assert figures[:3] == [1, 1, 1]
    paper, best, *others = nearest
    assert [paper[side] for side in ("28", "56", "112")] == ["0.76", "0.75", "0.80"]
    assert float(best["mean difference"]) < 0.05
    assert all(float(row["mean difference"]) >= float(best["mean difference"]) for row in others)


def oracle_results(capsys: pytest.CaptureFixture[str], *options: str) -> Any:
    code = oracles.main([*SAMPLE, "--limit", "2", "--kinds", "warp", *options])
    return code, capsys.readouterr().out


def test_oracles_on_the_sample(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    code, text = oracle_results(capsys, "--json")
    assert code == 0
    found = json.loads(text)["warp"]
    assert found["instances"] == 14
    told = {row["told"]: row for row in found["bpr"]}
    order = [told[name]["mean_iou"] for name in ("coarse", "1 px", "2 px", "3 px", oracles.PATCHES)]
    assert order == sorted(order)
    assert order[0] < order[1] < order[3]
    for row in list(told.values())[1:4]:
        # Patches leave some boundary pixels out.
        assert 0 < row["ap_gain"] <= row["plain"] + 1e-9
    crops = {(row["rule"], row["level"]): row for row in found["transfiner"]}
    for rule in ("Eq. 1", "bilinear"):
        areas, reached, fit = (
            [crops[rule, side][key] for side in ("28", "56", "112")] for key in ("marked", "reached", "mean_iou")
        )
        assert areas == sorted(areas, reverse=True)
        assert reached == sorted(reached, reverse=True)
        assert min(fit) > crops["nowhere", ""]["mean_iou"]
    assert crops["everywhere", ""]["mean_iou"] > 0.995
    for side in ("28", "56", "112"):
        assert crops["bilinear", side]["reached"] > crops["Eq. 1", side]["reached"]
    exact = found["check"]["every wrong pixel in a patch"]
    assert exact["instances"] > 0
    assert exact["least_iou"] == 1


def test_oracle_tables_parse_and_a_failed_check_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    monkeypatch.setattr(oracles, "ACCEPTED", 1.1)
    code, text = oracle_results(capsys)
    assert code == 1
    bpr, transfiner, check = tables(text)
    assert [row["paper's gain"] for row in bpr] == ["", "+9.4", "+14.2", "+17.8", ""]
    assert len(transfiner) == 8
    assert [row["of"] for row in check] == ["14", "14"]
    assert all(0 <= float(row["mean IoU"]) <= 1 for row in [*bpr, *transfiner, *check])


def test_an_oracle_tells_the_truth_where_it_may_and_the_coarse_mask_elsewhere() -> None:
    truth = cv2.circle(np.zeros((200, 260), np.uint8), (120, 90), 50, 1, -1)
    coarse = np.roll(truth, 3, 1)
    where = np.zeros(truth.shape, bool)
    where[:90] = True
    masks = [Rle.from_dense(each) for each in (truth, coarse)]
    refined = oracles.through(oracles.PatchOracle(), oracles.lesson(masks[0], where), masks[1], nms=0.55)
    assert np.array_equal(refined.to_dense(), np.where(where, truth, coarse) > 0)


def test_what_lies_outside_the_frame_is_not_counted() -> None:
    truth = np.zeros((60, 90), np.uint8)
    truth[5:, 10:80] = 1
    mask = Rle.from_dense(truth)
    # The crop is higher than the frame, and the image goes on below it.
    oracle = oracles.CropOracle(np.ones_like)
    assert np.array_equal(oracles.through(oracle, oracles.lesson(mask), mask).to_dense(), truth > 0)
    # Image and mask are scaled by different rules, which may differ in a corner.
    assert oracle.wrong <= 4
    assert oracle.marked == [1.0]
    coarse = truth.copy()
    coarse[:, 10:13] = 0
    oracle = oracles.CropOracle(np.zeros_like)
    oracles.through(oracle, oracles.lesson(mask), Rle.from_dense(coarse))
    x0, _, x1, _ = oracle.boxes(Rle.from_dense(coarse), 0.25)[0]
    assert oracle.wrong == pytest.approx(3 * 55 * (224 / (x1 - x0)) ** 2, rel=0.15)
    assert oracle.reached == 0


def test_patches_on_the_sample(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    pytest.importorskip("openvino", reason="openvino is not installed")
    patches = load("patches")
    assert patches.main([*SAMPLE, "--limit", "2"]) == 0
    overlap, extraction = tables(capsys.readouterr().out)
    assert [row["threshold"] for row in overlap] == ["coarse", "0", "0.15", "0.25", "0.35", "0.45", "0.55"]
    assert [row["paper, per image"] for row in overlap] == ["", "", "", "135", "", "", ""]
    for column in ("patches per instance", "per image", "boundary covered %"):
        figures = [float(row[column]) for row in overlap[1:]]
        assert figures == sorted(figures), column
    fit = [float(row["oracle IoU"]) for row in overlap[1:]]
    assert fit[0] < fit[-1] == 1
    coarse, dense, grid, whole = extraction
    assert coarse["mean IoU"] == overlap[0]["mean IoU"]
    # The same patches, whether alone or in company.
    assert {dense[key] for key in ("mean IoU", "F@1")} == {overlap[3][key] for key in ("mean IoU", "F@1")}
    assert float(whole["patches per instance"]) == 1
    assert float(whole["oracle IoU"]) < float(grid["oracle IoU"])


@pytest.mark.parametrize("size", [(40, 300), (200, 300)])
def test_a_grid_covers_the_boundary_and_stays_in_the_frame(size: tuple[int, int]) -> None:
    patches = load("patches")
    for seed in range(4):
        noise = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(size), (0, 0), 9)
        mask = Rle.from_dense(noise > 0.02)
        boxes = patches.grid(mask)
        pixels, _ = boundary_pixels(mask)
        assert patches.covered(mask, boxes) == (len(pixels), len(pixels))
        assert (boxes[:, 2:] - boxes[:, :2] == 64).all()
        assert len(np.unique(boxes, axis=0)) == len(boxes)
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= max(size[1], 64)).all()
        assert (boxes[:, 3] <= max(size[0], 64)).all()
    # A square of 64 px with its rows and columns of boundary around it needs four cells.
    square = np.zeros((300, 300), np.uint8)
    square[100:164, 100:164] = 1
    assert len(patches.grid(Rle.from_dense(square))) == 4


def test_one_square_holds_the_whole_instance_up_to_its_limit() -> None:
    patches = load("patches")
    mask = np.zeros((500, 1600), np.uint8)
    mask[100:300, 50:350] = 1
    (box,) = patches.whole(Rle.from_dense(mask))
    assert box[0] <= 50 and box[1] <= 100 and box[2] >= 350 and box[3] >= 300  # noqa: PT018
    mask[100:300, 50:1550] = 1
    (box,) = patches.whole(Rle.from_dense(mask))
    assert [box[2] - box[0], box[3] - box[1]] == [1024, 1024]


@pytest.mark.parametrize("options", [["--limit", "0"], ["--nms", "1.5"], ["--gt", "nowhere.json"]])
def test_unusable_options(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        oracles.main([*SAMPLE, *options])
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
