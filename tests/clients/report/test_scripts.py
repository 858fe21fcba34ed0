"""The page's modules by themselves under node, against the library."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from page_scripts import node_runner

from maskmend.clients.report.page import script_text
from maskmend.patcher import Rle
from maskmend.patcher.displacement import max_displacement

STATIC = Path(__file__).parents[3] / "clients/maskmend/clients/report/static"
Node = Callable[[str, Any], Any]


@pytest.fixture(scope="module")
def program() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    return found


@pytest.fixture(scope="module")
def node(program: str, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Runs a script against the page's modules: takes what `input` holds, gives what `print` is called with."""
    folder = tmp_path_factory.mktemp("modules")
    return node_runner(program, STATIC, folder)


def random_masks(count: int) -> list[Rle]:
    rng = np.random.default_rng(21)
    masks = []
    for n in range(count):
        size = (int(rng.integers(1, 50)), int(rng.integers(1, 50)))
        noise = cv2.GaussianBlur(rng.random(size), (0, 0), 0.4 + n % 4)
        masks.append(Rle.from_dense(noise > np.quantile(noise, rng.random())))
    large = np.zeros((700, 900), bool)
    large[30:650, 40:880] = True
    return [
        *masks,
        Rle.from_dense(np.ones((7, 5), bool)),
        Rle.from_dense(np.zeros((7, 5), bool)),
        Rle.from_dense(large),
    ]


def test_the_joined_script_can_be_read(program: str, tmp_path: Path) -> None:
    (tmp_path / "joined.js").write_text(script_text())
    done = subprocess.run([program, "--check", "joined.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_modules_are_joined_after_those_they_import() -> None:
    from maskmend.clients.report.page import SCRIPTS

    for number, name in enumerate(SCRIPTS):
        text = (STATIC / f"{name}.js").read_text()
        wanted = {line.split('"./')[1].split(".js")[0] for line in text.splitlines() if line.startswith("import")}
        assert wanted <= set(SCRIPTS[:number]), name


def test_masks_are_read_as_the_library_writes_them(node: Node) -> None:
    masks = random_masks(120)
    script = """
    import { pixelsOf } from "./runs.js";
    print(input.map(({ counts, size }) => [...pixelsOf(counts, size[1], size[0])]));
    """
    for mask, pixels in zip(masks, node(script, [mask.to_coco() for mask in masks]), strict=True):
        assert pixels == mask.to_dense().astype(int).ravel().tolist()


def test_outlines_run_between_foreground_and_background_and_nowhere_else(node: Node) -> None:
    masks = random_masks(60)[:-1]
    script = """
    import { pixelsOf } from "./runs.js";
    import { sidesOf } from "./layers.js";
    print(input.map(({ counts, size: [h, w] }) => sidesOf(pixelsOf(counts, w, h), w, h)));
    """
    for mask, sides in zip(masks, node(script, [mask.to_coco() for mask in masks]), strict=True):
        framed = np.pad(mask.to_dense(), 1).astype(int)
        # Sides of one pixel each: (x, y, whether it runs across).
        across = {(x - 1, y) for y, x in zip(*np.nonzero(np.diff(framed, axis=0)), strict=True)}
        down = {(x, y - 1) for y, x in zip(*np.nonzero(np.diff(framed, axis=1)), strict=True)}
        drawn_across = {(x, y0) for x0, y0, x1, y1 in sides if y0 == y1 for x in range(x0, x1)}
        drawn_down = {(x0, y) for x0, y0, x1, y1 in sides if x0 == x1 for y in range(y0, y1)}
        assert (drawn_across, drawn_down) == (across, down)


def test_changes_are_as_far_as_the_report_says(node: Node) -> None:
    rng = np.random.default_rng(6)
    pairs = []
    for mask in random_masks(100)[:-1]:
        if 0 < mask.area < mask.width * mask.height:
            moved = Rle.from_dense(np.roll(mask.to_dense(), tuple(rng.integers(-4, 5, 2)), (0, 1)))
            pairs.append((mask, moved))
    script = """
    import { pixelsOf } from "./runs.js";
    import { movedOf } from "./layers.js";
    print(input.map(([before, after]) => {
      const [h, w] = before.size;
      return [...movedOf(pixelsOf(before.counts, w, h), pixelsOf(after.counts, w, h), w, h)];
    }));
    """
    told = node(script, [[before.to_coco(), after.to_coco()] for before, after in pairs])
    for (before, after), far in zip(pairs, told, strict=True):
        field = np.array(far).reshape(before.height, before.width)
        was, became = before.to_dense(), after.to_dense()
        np.testing.assert_array_equal(field > 0, was != became)
        expected = np.where(
            became,
            cv2.distanceTransform((~was).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE),
            cv2.distanceTransform(was.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE),
        )
        np.testing.assert_allclose(field, np.where(was != became, expected, 0), atol=1e-3)
        assert field.max() == pytest.approx(max_displacement(before, after), abs=1e-3)


def test_sorting_and_filtering(node: Node) -> None:
    names = ["number", "changed", "area", "farthest", "score", "label", "outcome", "kept", "before", "after", "words"]
    rows = [
        [0, 10, 1000, 3.0, 0.9, 0, 0, False, 0.8, 0.9, "a.jpg cat #0"],
        [1, 50, 9000, 1.0, 0.6, 1, 0, False, 0.9, 0.7, "b.jpg dog #1"],
        [2, 0, 50, 0.0, 0.3, 0, 2, True, None, None, "a.jpg cat #2"],
        [3, 10, 20, 9.0, None, 1, 0, False, 0.5, 0.5, "c.jpg dog #3"],
        [4, 0, 70, 0.0, 0.5, 1, 2, True, 0.6, 0.6, "b.jpg dog #4"],
    ]
    table = [dict(zip(names, row, strict=True)) for row in rows]
    script = """
    import { SORTS, chosen, sortsFor } from "./filters.js";
    const plain = { sort: "changed", label: null, outcome: null, text: "" };
    const numbers = (settings) => chosen(input, { ...plain, ...settings }).map((row) => row.number);
    print({
      sorts: Object.fromEntries(SORTS.map(([key]) => [key, numbers({ sort: key })])),
      bare: sortsFor(input.map((row) => ({ ...row, score: null, after: null, kept: false }))).map(([key]) => key),
      cats: numbers({ label: 0 }), kept: numbers({ outcome: 2 }), text: numbers({ text: "  DOG b.jpg" }),
      none: numbers({ text: "horse" }), both: numbers({ label: 1, outcome: 2, text: "b" }),
    });
    """
    told = node(script, table)
    assert told["sorts"] == {
        "changed": [1, 0, 3, 2, 4],
        "share": [3, 0, 1, 2, 4],
        "farthest": [3, 0, 1, 2, 4],
        "unsure": [2, 4, 1, 0, 3],
        "kept": [4, 2, 0, 1, 3],
        "largest": [1, 0, 4, 2, 3],
        "gain": [0, 3, 4, 1, 2],
        "harm": [1, 3, 4, 0, 2],
        "number": [0, 1, 2, 3, 4],
    }
    assert told["bare"] == ["changed", "share", "farthest", "largest", "number"]
    assert (told["cats"], told["kept"], told["text"], told["none"], told["both"]) == ([0, 2], [2, 4], [1, 4], [], [4])
