"""The scripts of benchmarks/performance: they run, their plain ways do the same work as ours, and ours stays ahead."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from benchmark_scripts import loader
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.patcher import Rle, boundary_boxes
from maskmend.patcher.metrics import iou

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "coarse.json"
IMAGES = ROOT / "samples" / "images"

load = loader("performance")
measuring, scenes, published, cascadepsp = map(load, ("measuring", "scenes", "published_shape", "cascadepsp"))
peers, growth, first_result, whole_job = map(load, ("peers", "growth", "first_result", "whole_job"))


def call(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *map(str, arguments)])
    script.main()


def test_ways_take_turns_and_ratios_are_of_one_round() -> None:
    order: list[str] = []
    times = measuring.by_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3
    assert len(times["a"]["runs"]) == 2
    slow, fast = measuring.summary([(4.0, 2.0), (9.0, 30.0), (8.0, 6.0)]), measuring.summary([(2.0, 1.0)] * 3)
    assert (slow["clock_s"], slow["processor_s"]) == (8.0, 6.0)
    assert measuring.ratio(slow, fast) == 6.0
    assert measuring.ratio(slow, fast, "clock_s") == 4.0


def test_a_line_is_found_and_how_well_it_fits() -> None:
    x = [1.0, 2.0, 4.0, 7.0]
    exact = measuring.line(x, [3 * v + 2 for v in x])
    assert (exact["slope"], exact["intercept"], exact["r2"]) == pytest.approx((3.0, 2.0, 1.0))
    assert measuring.line(x, [5.0, 1.0, 6.0, 2.0])["r2"] < 0.1
    with pytest.raises(ValueError, match="needs 3"):
        measuring.line([1.0, 2.0], [1.0, 2.0])


def test_a_scene_has_what_was_asked_for(tmp_path: Path) -> None:
    one, again = (scenes.synthetic(tmp_path, 300, 400, [60.0, 120.0], seed=4) for _ in range(2))
    small, large = one.masks
    assert one.photograph.is_file()
    assert (small.height, small.width) == (300, 400)
    assert [mask.area for mask in one.masks] == pytest.approx([np.pi * 30**2, np.pi * 60**2], rel=0.25)
    assert again.masks == one.masks
    assert 1.6 < growth.boundary_pixels(large) / growth.boundary_pixels(small) < 2.4


def test_boundary_pixels_of_a_rectangle() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:15, 10:22] = True
    assert growth.boundary_pixels(Rle.from_dense(mask)) == 2 * 10 + 2 * 12 - 4


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(64, 200), width=st.integers(64, 260))
@settings(max_examples=25, deadline=None)
def test_the_published_way_looks_where_ours_does(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    for _ in range(3):
        y, x = rng.integers(0, height), rng.integers(0, width)
        mask[y : y + rng.integers(1, 90), x : x + rng.integers(1, 90)] ^= True
    if mask.any() and not mask.all():
        assert np.array_equal(published.boxes_of(mask), boundary_boxes(mask))


def test_boxes_from_run_lengths_stay_far_ahead_of_whole_frames(tmp_path: Path) -> None:
    # The gate: a ratio within one run. It was above 200 when this was written; a dense frame in our way would undo it.
    mask = scenes.synthetic(tmp_path, *peers.WIDE, [300.0]).masks[0]
    rle = mask.to_coco()
    times = measuring.by_turns(
        {
            "plain": lambda: [published.boxes_of(Rle.from_coco(rle).to_dense()) for _ in range(2)],
            "ours": lambda: [boundary_boxes(rle) for _ in range(2)],
        },
        7,
    )
    assert measuring.ratio(times["plain"], times["ours"]) > 40


def test_the_published_way_gives_the_masks_of_our_one_pass(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the published way runs its network in PyTorch")
    chosen = [scene for scene in scenes.from_results(SAMPLE, IMAGES, 2) if len(scene.masks) == 2][:1]
    network = published.eager_network("bpr-small", 1)
    refined, patches = published.refine(chosen, network, tmp_path)
    ours = peers.ours(chosen, peers.Refiner(threads=1, passes=1, guard=False, arbitrate=False))
    assert patches == sum(len(boundary_boxes(mask.to_coco())) for mask in chosen[0].masks)
    for coarse, theirs, mine in zip(chosen[0].masks, refined, ours, strict=True):
        assert iou(theirs.to_dense(), mine.to_dense()) > 0.985
        assert theirs != coarse


def test_peers_on_one_photograph(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--limit", 1, "--photographs", 1, "--repeats", 1, "--threads", 1)
    call(peers, monkeypatch, SAMPLE, "--images", IMAGES, *options, "--json", tmp_path / "peers.json")
    figures = json.loads((tmp_path / "peers.json").read_text())
    assert figures["instances"] == 1
    assert 0 < figures["network_share"] < 1
    assert {"maskmend", "maskmend, one pass", "grabcut"} <= set(figures["ways"])
    assert {"published, HRNet", "densecrf"} <= set(figures["ways"]) | set(figures["missing"])
    assert all(row["processor_s"] > 0 for row in figures["ways"].values())
    assert figures["machine"]["versions"]["numpy"] == np.__version__
    assert "| grabcut |" in capsys.readouterr().out


def test_a_library_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    monkeypatch.setattr(peers.baselines, "available", lambda name: name == "grabcut")
    ways, missing = peers.ways_of([], tmp_path, 1)
    assert list(ways) == ["maskmend", "maskmend, one pass", "grabcut"]
    assert "train extra" in missing["published"]
    assert "bench extra" in missing["densecrf"]
    monkeypatch.setattr(cascadepsp, "available", lambda: False)
    with pytest.raises(SystemExit, match="pip install --no-deps segmentation-refinement"):
        call(peers, monkeypatch, SAMPLE, "--images", IMAGES, "--cascadepsp", 1)
    with pytest.raises(SystemExit) as ended:
        call(peers, monkeypatch)
    assert ended.value.code == 2
    assert "or --wide" in capsys.readouterr().err


def test_beside_a_package_that_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []
    package = cascadepsp.Package(lambda image, mask: seen.append((image.shape[:2], mask.shape)), 2)
    monkeypatch.setattr(cascadepsp, "load", lambda threads: package)
    chosen = scenes.from_results(SAMPLE, IMAGES)[:1]
    figures = peers.beside_cascadepsp(chosen, 1, 2, 1)
    assert len(seen) == 2
    assert all(image == mask for image, mask in seen)
    assert (figures["instances"], figures["network_calls"]) == (1, 1.0)
    assert figures["ways"]["segmentation-refinement"]["ratio"] > 0


@pytest.mark.skipif(not cascadepsp.available(), reason="segmentation-refinement or PyTorch is not installed")
def test_the_real_package_can_be_loaded_without_its_weights() -> None:
    assert cascadepsp.load(1).calls == 0


def test_growth_measures_each_point_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(growth, monkeypatch, "instances", "--points", 4, "--repeats", 1, "--json", tmp_path / "growth.json")
    (four,) = json.loads((tmp_path / "growth.json").read_text())["rows"]
    assert "| 2048x2048 | 4 |" in capsys.readouterr().out
    one = growth.measure("instances", 1, 1)
    assert (one["instances"], four["instances"]) == (1, 4)
    assert four["boundary_px"] > 2 * one["boundary_px"]
    assert one["stages"]["network"] > 0
    assert four["geometry_s"] > 0
    assert four["peak_mb"] is None or 50 < four["peak_mb"] < 5000
    monkeypatch.setattr(growth, "__file__", str(tmp_path / "gone.py"))
    with pytest.raises(SystemExit, match=r"instances 4 failed with code 2: .*gone\.py"):
        growth.run("instances", [4], 1, 1)


def test_a_fresh_process_is_timed_to_its_end() -> None:
    figures = first_result.run(SAMPLE, IMAGES, 1, warm=False)
    assert figures["records"] == 1
    rows = figures["processes"]
    assert rows["maskmend refine, one image"]["processor_s"] > rows["python, import numpy"]["processor_s"] > 0
    with pytest.raises(SystemExit, match="ended with code 3"):
        first_result.finished([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_whole_job_by_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_job, "WAYS", {name: way for name, way in whole_job.WAYS.items() if "auto" not in name})
    records = [{**record, "id": n} for n, record in enumerate(json.loads(SAMPLE.read_text()))]
    names = dict.fromkeys(record["file_name"] for record in records)
    ids = {record["file_name"]: record["image_id"] for record in records}
    document = {"images": [{"id": ids[name], "file_name": name} for name in names], "annotations": records}
    (tmp_path / "all.json").write_text(json.dumps(document))
    written, arguments = tmp_path / "figures.json", ("--photographs", 2, "--repeats", 1, "--threads", 1)
    call(whole_job, monkeypatch, tmp_path / "all.json", "--images", IMAGES, *arguments, "--json", written)
    figures = json.loads(written.read_text())
    first = list(names)[:2]
    assert figures["instances"] == sum(record["file_name"] in first for record in records)
    assert figures["same_bytes"]
    for name, row in figures["ways"].items():
        assert 0 < row["at_work"] < 1
        assert ("of_the_processor" in row) == name.endswith("one at a time")
