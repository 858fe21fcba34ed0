"""The modules of the page at /, by themselves under node."""

from __future__ import annotations

import io
import json
import shutil
from typing import Any

import cv2
import numpy as np
import pytest
from page_files import ROOT, WEB, records_of
from page_scripts import node_runner
from PIL import Image

from maskmend.patcher import Rle
from maskmend.patcher.displacement import max_displacement
from maskmend.patcher.mask_images import read_index_mask, read_mask
from maskmend.patcher.polygons import polygons_to_rle


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs a script against the page's modules: takes what `input` holds as JSON, gives what `print` is called with."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    folder = tmp_path_factory.mktemp("web")
    return node_runner(program, WEB, folder)


def random_masks(count: int) -> list[Rle]:
    rng = np.random.default_rng(11)
    masks = []
    for n in range(count):
        size = (int(rng.integers(1, 60)), int(rng.integers(1, 60)))
        noise = cv2.GaussianBlur(rng.random(size), (0, 0), 0.4 + n % 4)
        masks.append(Rle.from_dense(noise > np.quantile(noise, rng.random())))
    full, empty = np.ones((7, 5), bool), np.zeros((7, 5), bool)
    return [*masks, Rle.from_dense(full), Rle.from_dense(empty)]


def test_run_lengths_are_read_and_written_as_the_patcher_does(node: Any) -> None:
    masks = random_masks(200)
    script = """
    import { area, box, crop, fromDense, readRle, writeRle } from "./rle.js";
    print(input.map((coco) => {
      const mask = readRle(coco);
      const pixels = crop(mask, 0, 0, mask.width, mask.height);
      return {
        again: writeRle(mask), drawn: writeRle(fromDense(pixels, mask.width, mask.height)),
        pixels: [...pixels], area: area(mask), box: box(mask),
      };
    }));
    """
    for mask, told in zip(masks, node(script, [mask.to_coco() for mask in masks]), strict=True):
        assert told["again"] == told["drawn"] == mask.to_coco()
        assert told["pixels"] == mask.to_dense().astype(int).ravel().tolist()
        assert (told["area"], tuple(told["box"])) == (mask.area, mask.bbox)


def test_run_lengths_with_empty_runs_inside_are_made_canonical(node: Any) -> None:
    given = [
        {"size": [4, 3], "counts": counts}
        for counts in ([0, 0, 5, 0, 0, 7], [2, 0, 3, 4, 3], [12], [0, 12], [1, 2, 0, 0, 9])
    ]
    script = 'import { readRle } from "./rle.js"; print(input.map((coco) => [...readRle(coco).runs]));'
    assert node(script, given) == [Rle.from_coco(coco).counts.tolist() for coco in given]


def test_run_lengths_that_are_none_are_refused(node: Any) -> None:
    script = """
    import { readRle } from "./rle.js";
    print(input.map((coco) => { try { readRle(coco); return "read"; } catch (error) { return error.name; } }));
    """
    texts = ["", "o", "~~", "oooooooo0", "1", "00000", "\u00e9", [3, -1, 10], [1.5, 10.5], [5], None, "d0d0"]
    assert set(node(script, [{"size": [4, 3], "counts": text} for text in texts])) == {"Error"}
    assert node(script, [{"size": size, "counts": [12]} for size in ([0, 3], [12], None, [-4, -3])]) == ["Error"] * 4


def test_polygons_are_drawn_as_the_patcher_draws_them(node: Any) -> None:
    rng = np.random.default_rng(5)
    cases = []
    for n in range(150):
        height, width = (int(side) for side in rng.integers(1, 50, 2))
        parts = [
            (rng.random((int(rng.integers(3, 9)), 2)) * [width * 1.4, height * 1.4] - [width * 0.2, height * 0.2])
            for _ in range(1 + n % 3)
        ]
        parts = [(np.round(part) if n % 2 else part).ravel().tolist() for part in parts]
        cases.append({"polygons": parts, "width": width, "height": height})
    script = """
    import { fromPolygons } from "./polygons.js";
    import { writeRle } from "./rle.js";
    print(input.map(({ polygons, width, height }) => writeRle(fromPolygons(polygons, width, height))));
    """
    expected = [polygons_to_rle(case["polygons"], case["height"], case["width"]).to_coco() for case in cases]
    assert node(script, cases) == expected


def test_distances_of_changes_are_those_of_the_report(node: Any) -> None:
    coarse = [mask for mask in random_masks(120) if 0 < mask.area < mask.width * mask.height]
    rng = np.random.default_rng(6)
    pairs = []
    for mask in coarse:
        moved = np.roll(mask.to_dense(), tuple(rng.integers(-3, 4, 2)), (0, 1))
        pairs.append((mask, Rle.from_dense(moved)))
    script = """
    import { crop, readRle } from "./rle.js";
    import { changeDistance } from "./sprites.js";
    print(input.map(([before, after]) => {
      const [width, height] = [before.size[1], before.size[0]];
      const pixels = (coco) => crop(readRle(coco), 0, 0, width, height);
      const distance = [...changeDistance(pixels(before), pixels(after), width, height)];
      return [distance.filter((d) => d > 0).length, distance.filter((d) => d < 0).length,
        Math.max(...distance.map(Math.abs))];
    }));
    """
    told = node(script, [[before.to_coco(), after.to_coco()] for before, after in pairs])
    for (before, after), (added, removed, farthest) in zip(pairs, told, strict=True):
        was, became = before.to_dense(), after.to_dense()
        assert (added, removed) == ((became & ~was).sum(), (was & ~became).sum())
        assert farthest == pytest.approx(max_displacement(before, after), abs=1e-3)


def test_png_values_come_and_go_unchanged(node: Any) -> None:
    rng = np.random.default_rng(8)
    pictures = [
        rng.integers(0, 5, (13, 21)).astype(np.uint8),
        rng.integers(0, 60_000, (9, 4)).astype(np.uint16),
        np.arange(600, dtype=np.uint16).reshape(20, 30) // 7,
    ]
    files = [bytes(cv2.imencode(".png", picture)[1]) for picture in pictures]
    script = """
    import { decodePng, encodePng } from "./png.js";
    const out = [];
    for (const bytes of input) {
      const png = await decodePng(Uint8Array.from(bytes).buffer);
      const again = await encodePng(png.values, png.width, png.height);
      out.push({ width: png.width, height: png.height, values: [...png.values], again: [...again] });
    }
    print(out);
    """
    for picture, told in zip(pictures, node(script, [list(file) for file in files]), strict=True):
        assert (told["height"], told["width"]) == picture.shape
        assert told["values"] == picture.ravel().tolist()
        again = cv2.imdecode(np.array(told["again"], np.uint8), cv2.IMREAD_UNCHANGED)
        assert again.dtype == picture.dtype
        np.testing.assert_array_equal(again, picture)


def test_index_and_mask_pngs_are_read_as_the_patcher_reads_them(node: Any) -> None:
    rng = np.random.default_rng(9)
    files = []
    for bits in (1, 2, 4, 8):
        values = cv2.resize(rng.integers(0, 2**bits, (4, 5)).astype(np.uint8), (23, 17), interpolation=0)
        picture = Image.fromarray(values, "L")
        picture.putpalette(
            [int(c) for c in rng.permutation(2**bits) for _ in range(3)] if bits > 1 else [0] * 3 + [9] * 3
        )
        if bits == 4:
            # Two entries of one colour.
            picture.putpalette([0, 0, 0, *[90, 80, 70] * 2, *range(1, 40)])
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", bits=bits)
        files.append(buffer.getvalue())
    files.append(bytes(cv2.imencode(".png", rng.integers(0, 3, (9, 8)).astype(np.uint16) * 700)[1]))
    script = """
    import { readMasks } from "./masks.js";
    import { writeRle } from "./rle.js";
    const out = [];
    for (const bytes of input) {
      const file = new Blob([Uint8Array.from(bytes)]);
      const index = await readMasks({ kind: "png", files: [file], as: "index" }, null);
      const mask = await readMasks({ kind: "png", files: [file], as: "mask" }, null);
      out.push({ index: index.coarse.map(writeRle), mask: writeRle(mask.coarse[0]) });
    }
    print(out);
    """
    for data, told in zip(files, node(script, [list(file) for file in files]), strict=True):
        assert told["index"] == [mask.to_coco() for mask in read_index_mask(data)]
        assert told["mask"] == read_mask(data).to_coco()


def test_records_of_other_images_are_passed_over(node: Any) -> None:
    table = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "folder/b.jpg"}],
        "annotations": [
            {"image_id": n, "segmentation": {"size": [2, 2], "counts": [n, 4 - n]}, "category_id": 5} for n in (1, 2, 1)
        ],
    }
    script = """
    import { readMasks } from "./masks.js";
    const image = { name: input.name, width: 2, height: 2 };
    const read = await readMasks({ kind: "json", text: JSON.stringify(input.json) }, image)
      .catch((error) => ({ note: error.message }));
    print({ note: read.note, parts: read.parts, records: read.records });
    """
    told = node(script, {"name": "b.jpg", "json": table})
    assert told["note"] == "1 of 3 records belong to b.jpg."
    assert told["records"] == [table["annotations"][1]]
    assert told["parts"] == [["masks", '[{"size":[2,2],"counts":[2,2]}]']]
    assert "2 images, none of them called c.jpg" in node(script, {"name": "c.jpg", "json": table})["note"]
    for given in ([0, 0, 2, 0, 2, 2], [[0, 0, 2, 0, 2, 2]], [[[0, 0, 2, 0, 2, 2]]]):
        assert node(script, {"name": "a.jpg", "json": given})["parts"] == [["masks", "[[[0,0,2,0,2,2]]]"]]


def test_nothing_of_the_page_is_inline_or_from_elsewhere() -> None:
    page = (WEB / "index.html").read_text()
    assert " style=" not in page
    assert "<style" not in page
    assert not any(f" on{event}=" in page for event in ("click", "load", "change", "input", "submit", "error"))
    assert page.count("<script") == page.count('<script type="module" src="/static/') == 1
    for file in [*WEB.glob("*.js"), *WEB.glob("*.css"), *WEB.glob("*.html")]:
        text = file.read_text()
        assert "http://" not in text, file
        assert "https://" not in text, file
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Storage"):
            assert sink not in text, (file, sink)


def test_samples_are_the_repositorys_and_carry_their_attribution() -> None:
    samples = json.loads((WEB / "samples/samples.json").read_text())
    ours, theirs = ((folder / "ATTRIBUTION.md").read_text() for folder in (WEB / "samples", ROOT / "samples"))
    assert len(samples) == 3
    for sample in samples:
        photo = ROOT / "samples/images" / sample["image"]
        assert (WEB / "samples" / sample["image"]).read_bytes() == photo.read_bytes()
        assert sample["masks"] == [record["segmentation"] for record in records_of(photo)]
        address = sample["attribution"]["photograph"]["url"]
        assert f"`{sample['image']}`" in ours
        assert address in ours
        assert address in theirs
        assert (WEB / "samples" / sample["preview"]).stat().st_size < 20_000
