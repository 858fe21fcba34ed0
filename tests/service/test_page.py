"""The page at /: its modules by themselves under node, and the whole of it in a browser against a running server."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from page_scripts import node_runner
from PIL import Image

from maskmend.patcher import Rle
from maskmend.patcher.displacement import max_displacement
from maskmend.patcher.mask_images import read_index_mask, read_mask, write_index_mask, write_mask
from maskmend.patcher.polygons import polygons_to_rle

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "service/maskmend/service/web"
PHOTO = ROOT / "samples/images/000000403385.jpg"
COARSE = ROOT / "samples/coarse.json"


def load_driver() -> Any:
    spec = importlib.util.spec_from_file_location("page_driver", Path(__file__).with_name("page_driver.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["page_driver"] = module
    spec.loader.exec_module(module)
    return module


driver = load_driver()


def records_of(photo: Path) -> list[dict[str, Any]]:
    return [record for record in json.loads(COARSE.read_text()) if record["file_name"] == photo.name]


def coarse_masks(photo: Path) -> list[Rle]:
    return [Rle.from_coco(record["segmentation"]) for record in records_of(photo)]


def json_file(content: Any, name: str = "masks.json") -> dict[str, Any]:
    return {"name": name, "mimeType": "application/json", "buffer": json.dumps(content).encode()}


def png_file(data: bytes, name: str) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": data}


# ---- modules by themselves


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


# ---- the whole of it in a browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[str]:
    for module in ("fastapi", "uvicorn"):
        pytest.importorskip(module, reason=f"{module} is not installed; the page needs a server")
    with driver.running_server(tmp_path_factory.mktemp("server") / "log.txt") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = driver.find_browser()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(driver.BROWSERS)} is installed")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def seen(browser: Any, address: str) -> Iterator[Any]:
    """A visit to the page, which must end without errors and without a request to anywhere else."""
    with driver.visit(browser, address) as visit:
        yield visit
        assert visit.errors == []
        assert visit.elsewhere == []


def ask(address: str, photo: Path, masks: list[Any], **options: str) -> dict[str, Any]:
    """What the server answers without the page."""
    files = {"image": (photo.name, photo.read_bytes(), "image/jpeg")}
    data = {"masks": json.dumps(masks), **options}
    answer = httpx.post(f"{address}/v1/refine", files=files, data=data, timeout=300)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def focused(seen: Any) -> str:
    return str(seen.page.evaluate("document.activeElement.id || document.activeElement.className"))


def tab_to(seen: Any, wanted: str) -> None:
    for _ in range(60):
        if focused(seen) == wanted:
            return
        seen.page.keyboard.press("Tab")
    raise AssertionError(f"the Tab key does not lead to {wanted}")


def test_a_sample_is_refined_and_compared_by_keyboard_alone(seen: Any) -> None:
    keys = seen.page.keyboard
    tab_to(seen, "sample")
    assert seen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    keys.press("Tab")
    keys.press("Enter")
    seen.page.wait_for_selector("#refine:enabled")
    assert "Ready" in seen.text("#status")
    assert "CC BY 2.0" in seen.text("#credit")
    tab_to(seen, "refine")
    keys.press("Enter")
    seen.page.wait_for_selector("#results:not([hidden])")
    assert seen.text("#status").startswith("13 masks: ")
    rows = seen.rows()
    assert [row[0] for row in rows] == [str(n + 1) for n in range(13)]
    assert {"Refined"} < {row[5] for row in rows}

    tab_to(seen, "split")
    middle = seen.picture()
    for _ in range(10):
        keys.press("ArrowRight")
    assert seen.page.input_value("#split") == "60"
    assert seen.page.get_attribute("#split", "aria-valuetext") == "60% before, 40% after"
    assert seen.picture() != middle
    seen.keep("sample")

    seen.page.focus("#table tbody button")
    for _ in range(3):
        keys.press("ArrowDown")
    before = seen.text("#zoom-value")
    keys.press("Enter")
    assert seen.page.locator("#table tr.selected").get_attribute("data-index") == "3"
    assert seen.text("#facts").startswith("Instance 4: ")
    seen.picture()
    assert seen.text("#zoom-value") != before
    seen.keep("instance")
    keys.press("Escape")
    assert seen.page.locator("#table tr.selected").count() == 0


def test_before_and_after_show_the_coarse_and_the_refined_masks(seen: Any) -> None:
    seen.choose_sample("Aeroplane")
    coarse = seen.picture()
    seen.refine()
    pictures = {}
    for share in (0, 50, 100):
        seen.page.fill("#split", str(share))
        pictures[share] = seen.picture()
    width = cv2.imdecode(np.frombuffer(coarse, np.uint8), 1).shape[1]

    def pixels(picture: bytes) -> Any:
        # What lies over the canvas is no part of it: the border, its handle and the two words.
        full = cv2.imdecode(np.frombuffer(picture, np.uint8), 1)[60:].astype(int)
        return full[:, 40 : width // 2 - 40], full[:, width // 2 + 40 : -40]

    (was, _), (left, right), (became, after) = (pixels(p) for p in (coarse, pictures[50], pictures[0]))
    # Smooth strokes come out a level off within another clip.
    np.testing.assert_allclose(left, was, atol=2)
    np.testing.assert_allclose(right, after, atol=2)
    np.testing.assert_allclose(pixels(pictures[100])[0], was, atol=2)
    assert (np.abs(became - was) > 40).any(axis=2).sum() > 200


def test_own_image_and_png_masks_are_refined(seen: Any) -> None:
    masks = coarse_masks(PHOTO)
    seen.upload(PHOTO, [png_file(write_mask(mask), f"{n}.png") for n, mask in enumerate(masks)])
    assert seen.text("#masks-text") == "2 masks from 2 PNG files"
    assert "640 × 511 px" in seen.text("#image-text")
    seen.refine()
    expected = ask(seen.address, PHOTO, [mask.to_coco() for mask in masks])["instances"]
    assert [row[:5] for row in seen.rows()] == [
        [
            str(one["index"] + 1),
            f"{one['confidence']:.2f}",
            f"{one['score']:.2f}",
            f"{one['max_displacement_px']:.1f}",
            f"{one['changed_pixels']:,}",
        ]
        for one in expected
    ]
    seen.keep("own-png")


def test_an_index_png_is_known_as_one_and_keeps_its_values(seen: Any) -> None:
    first, second = coarse_masks(PHOTO)
    index = np.zeros((first.height, first.width), np.uint8)
    index[second.to_dense()] = 40
    index[first.to_dense()] = 7
    data = bytes(cv2.imencode(".png", index)[1])
    seen.upload(PHOTO, [png_file(data, "index.png")])
    assert seen.page.input_value("#png-as") == "index"
    assert seen.text("#masks-text") == "2 masks from index.png"
    seen.refine()
    assert len(seen.rows()) == 2
    name, saved = seen.download("#save-index")
    assert name == "000000403385.index.png"
    picture = cv2.imdecode(np.frombuffer(saved, np.uint8), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(picture)) == {0, 7, 40}
    expected = ask(seen.address, PHOTO, [mask.to_coco() for mask in read_index_mask(data)])["instances"]
    np.testing.assert_array_equal(picture == 7, Rle.from_coco(expected[0]["segmentation"]).to_dense())


def test_a_coco_file_of_many_images_gives_the_records_of_this_one(seen: Any) -> None:
    seen.upload(PHOTO, [COARSE])
    assert "2 of 89 records belong to 000000403385.jpg." in seen.text("#status")
    seen.refine()
    name, saved = seen.download("#save-rle")
    assert name == "000000403385.refined.json"
    given = records_of(PHOTO)
    expected = ask(seen.address, PHOTO, given)["instances"]
    saved_records = json.loads(saved)
    for record, before, one in zip(saved_records, given, expected, strict=True):
        assert record == {**before, "segmentation": one["segmentation"], "bbox": one["box"], "area": one["area"]}


def test_downloads_hold_the_masks_of_the_answer(seen: Any) -> None:
    seen.choose_sample("Kitchen")
    seen.refine()
    photo = ROOT / "samples/images/000000401416.jpg"
    coarse = [mask.to_coco() for mask in coarse_masks(photo)]
    expected = [Rle.from_coco(one["segmentation"]) for one in ask(seen.address, photo, coarse)["instances"]]
    _, rle = seen.download("#save-rle")
    assert [Rle.from_coco(record["segmentation"]) for record in json.loads(rle)] == expected
    _, polygons = seen.download("#save-polygons")
    drawn = [polygons_to_rle(record["segmentation"], 480, 640) for record in json.loads(polygons)]
    assert drawn == expected
    _, index = seen.download("#save-index")
    server_index = cv2.imdecode(np.frombuffer(write_index_mask(expected, 480, 640), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(index, np.uint8), cv2.IMREAD_UNCHANGED), server_index)
    name, archive = seen.download("#save-zip")
    assert name == "000000401416.masks.zip"
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        assert files.testzip() is None
        assert files.namelist() == [f"000000401416.mask-{n + 1}.png" for n in range(8)]
        for file, mask in zip(files.namelist(), expected, strict=True):
            picture = cv2.imdecode(np.frombuffer(files.read(file), np.uint8), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(picture, mask.to_dense() * np.uint8(255))
    assert seen.page.is_disabled("#save-one")
    seen.page.click("#table tbody tr:nth-child(2)")
    name, one = seen.download("#save-one")
    assert name == "000000401416.mask-2.png"
    assert one == zipfile.ZipFile(io.BytesIO(archive)).read("000000401416.mask-2.png")


def test_pasted_polygons_are_refined_with_the_options_chosen(seen: Any) -> None:
    seen.page.set_input_files("#image-file", PHOTO)
    seen.page.click("#paste summary")
    polygons = [[[400, 240, 500, 230, 505, 470, 420, 470]]]
    seen.page.fill("#paste-text", json.dumps(polygons))
    seen.page.click("#paste-use")
    seen.page.wait_for_selector("#refine:enabled")
    seen.page.click(".options summary")
    assert "598,313 parameters" in seen.text("#weights-hint")
    seen.page.fill("#passes", "1")
    seen.page.uncheck("#guard")
    assert seen.page.is_disabled("#caution")
    assert seen.text("#options-state") == "changed"
    seen.keep("options")
    seen.refine()
    _, saved = seen.download("#save-rle")
    (expected,) = ask(seen.address, PHOTO, polygons, passes="1", guard="false")["instances"]
    assert [record["segmentation"] for record in json.loads(saved)] == [expected["segmentation"]]
    assert seen.page.locator("#provenance dt", has_text="passes").locator("+ dd").text_content() == "1"


def test_a_photograph_taken_upright_is_shown_and_refined_upright(seen: Any) -> None:
    picture = Image.open(PHOTO)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif, quality=90)
    mask = Rle.from_dense(np.rot90(coarse_masks(PHOTO)[0].to_dense(), -1))
    photo = {"name": "upright.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}
    seen.upload(photo, [png_file(write_mask(mask), "mask.png")])
    assert seen.text("#image-text") == "upright.jpg, 511 × 640 px"
    seen.refine()
    assert len(seen.rows()) == 1


def test_files_may_be_dropped_on_the_picture(seen: Any) -> None:
    mask = write_mask(coarse_masks(PHOTO)[0])
    transfer = seen.page.evaluate_handle(
        """([photo, mask]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(mask)], "mask.png", { type: "image/png" }));
          transfer.items.add(new File([Uint8Array.from(photo)], "photo.jpg", { type: "image/jpeg" }));
          return transfer;
        }""",
        [list(PHOTO.read_bytes()), list(mask)],
    )
    seen.page.dispatch_event("#stage", "drop", {"dataTransfer": transfer})
    seen.page.wait_for_selector("#refine:enabled")
    assert seen.text("#image-text") == "photo.jpg, 640 × 511 px"
    assert seen.text("#masks-text") == "1 mask from mask.png"


def test_an_error_is_shown_with_its_code_and_field(seen: Any) -> None:
    small = Rle.from_dense(np.eye(20, 30, dtype=bool))
    seen.upload(PHOTO, [json_file([small.to_coco()])])
    assert "A mask is 30 × 20 px, the image 640 × 511 px." in seen.text("#status")
    seen.page.click("#refine")
    seen.page.wait_for_selector("#error:not([hidden])")
    shown = seen.text("#error")
    assert "masks[0] is 30x20 px but the image is 640x511 px" in shown
    assert "invalid_mask" in shown
    assert seen.page.locator("#error dt", has_text="field").locator("+ dd").text_content() == "masks[0]"
    assert seen.page.is_hidden("#results")
    seen.keep("error")
    # The browser itself notes the refusal; nothing else may have gone wrong.
    assert len(seen.errors) == 1
    assert "422" in seen.errors.pop()
    seen.choose_sample("Aeroplane")
    seen.page.locator("#error").wait_for(state="hidden")


def test_what_cannot_be_read_is_said_before_anything_is_sent(seen: Any) -> None:
    seen.page.set_input_files("#image-file", {"name": "no.png", "mimeType": "image/png", "buffer": b"nothing"})
    seen.page.wait_for_selector("#error:not([hidden])")
    assert "no.png is not an image this browser can show" in seen.text("#error")
    seen.page.set_input_files("#image-file", PHOTO)
    seen.page.set_input_files("#masks-file", json_file("", "x.json") | {"buffer": b"{oh"})
    seen.page.wait_for_selector("#error:not([hidden])")
    assert "The masks are not JSON" in seen.text("#error")
    assert seen.page.is_disabled("#refine")


def test_a_key_is_asked_for_sent_and_kept_nowhere(seen: Any) -> None:
    refusal = {"code": "unauthorized", "message": "<b>a key is needed</b>", "field": "", "request_id": "r-1"}
    sent: list[str | None] = []

    def answer(route: Any) -> None:
        sent.append(route.request.headers.get("authorization"))
        if sent[-1] == "Bearer open sesame":
            route.continue_()
        else:
            route.fulfill(status=401, json=refusal)

    seen.page.route("**/v1/**", answer)
    seen.page.reload()
    seen.page.wait_for_selector("#key-panel[open] #key:focus")
    assert "<b>a key is needed</b>" in seen.text("#error")
    assert seen.page.get_attribute("#key", "type") == "password"
    seen.keep("key")
    seen.page.keyboard.type("open sesame")
    seen.page.keyboard.press("Tab")
    seen.page.wait_for_selector("#error", state="hidden")
    seen.page.wait_for_selector("#weights option[value=bpr-small]", state="attached")
    assert sent == [None, "Bearer open sesame"]
    kept = seen.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
    assert kept == [0, 0, ""]
    seen.errors[:] = [error for error in seen.errors if "401" not in error]


def test_a_full_queue_says_when_to_try_again(seen: Any) -> None:
    body = {"code": "overloaded", "message": "the queue is full", "field": "", "request_id": "r-2"}
    seen.page.route("**/v1/refine", lambda route: route.fulfill(status=429, json=body, headers={"Retry-After": "7"}))
    seen.choose_sample("Aeroplane")
    seen.page.click("#refine")
    seen.page.wait_for_selector("#error:not([hidden])")
    assert "7 s" in seen.text("#error")
    assert seen.text("#refine") == "Refine"
    seen.errors[:] = [error for error in seen.errors if "429" not in error]


def test_refining_can_be_cancelled(seen: Any) -> None:
    held: list[Any] = []
    seen.page.route("**/v1/refine", lambda route: held.append(route))
    seen.choose_sample("Aeroplane")
    seen.page.click("#refine")
    assert seen.text("#refine") == "Cancel"
    assert seen.page.get_attribute("#stage", "aria-busy") == "true"
    seen.page.click("#refine")
    assert seen.text("#refine") == "Refine"
    assert seen.text("#status") == "Cancelled."
    for route in held:
        route.abort()


def test_keys_wheel_and_mouse_zoom_and_move_the_picture(seen: Any) -> None:
    seen.choose_sample("Ball game")
    seen.page.focus("#canvas")
    keys = seen.page.keyboard
    keys.press("0")
    whole, fitted = seen.picture(), seen.text("#zoom-value")
    for _ in range(8):
        keys.press("+")
    near = seen.picture()
    zoomed = seen.text("#zoom-value")
    assert int(zoomed.rstrip("%")) > 5 * int(fitted.rstrip("%"))
    for key in ("ArrowRight", "ArrowDown"):
        keys.press(key)
        moved = seen.picture()
        assert moved != near
        near = moved
    for key in ("ArrowUp", "ArrowLeft", "-"):
        keys.press(key)
    seen.picture()
    assert seen.text("#zoom-value") != zoomed
    keys.press("0")
    assert seen.picture() == whole
    assert seen.text("#zoom-value") == fitted

    box = seen.page.locator("#canvas").bounding_box()
    x, y = box["x"] + box["width"] / 3, box["y"] + box["height"] / 2
    seen.page.mouse.move(x, y)
    for _ in range(6):
        seen.page.mouse.wheel(0, -200)
    wheeled = seen.picture()
    assert wheeled != whole
    seen.page.mouse.down()
    seen.page.mouse.move(x + 80, y + 30, steps=3)
    seen.page.mouse.up()
    assert seen.picture() != wheeled
    seen.page.click("#zoom-fit")
    seen.page.mouse.move(0, 0)
    seen.page.focus("#canvas")
    assert seen.text("#zoom-value") == fitted


def test_enlarged_pixels_are_squares_of_one_colour(seen: Any) -> None:
    seen.choose_sample("Ball game")
    seen.page.fill("#opacity", "0")
    seen.page.uncheck("#outlines")
    seen.page.focus("#canvas")
    for _ in range(30):
        seen.page.keyboard.press("+")
    picture = cv2.imdecode(np.frombuffer(seen.picture(), np.uint8), 1)[8:-8, 8:-8].astype(int)
    assert seen.text("#zoom-value") == "6400%"
    changed = np.abs(np.diff(picture[100], axis=0)).sum(1) > 0
    steps = np.diff(np.flatnonzero(changed))
    assert len(steps) > 3
    assert set(steps % 64) == {0}


def test_two_fingers_zoom(browser: Any, address: str) -> None:
    with driver.visit(browser, address, has_touch=True) as seen:
        seen.choose_sample("Aeroplane")
        before = int(seen.text("#zoom-value").rstrip("%"))
        box = seen.page.locator("#canvas").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        wire = seen.page.context.new_cdp_session(seen.page)
        for kind, apart in (("touchStart", 40), ("touchMove", 80), ("touchMove", 120), ("touchEnd", None)):
            points = [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
            wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        seen.picture()
        after = int(seen.text("#zoom-value").rstrip("%"))
        assert after == pytest.approx(3 * before, rel=0.05)
        assert seen.errors == []


def test_the_changes_are_drawn_in_two_colours(seen: Any) -> None:
    seen.choose_sample("Aeroplane")
    seen.refine()
    seen.page.locator("input[value=compare]").focus()
    seen.page.keyboard.press("ArrowRight")
    assert seen.page.is_visible("#legend")
    assert seen.page.is_hidden("#split")
    blue, _, red = cv2.split(cv2.imdecode(np.frombuffer(seen.picture(), np.uint8), 1).astype(int))
    assert ((blue - red) > 90).sum() > 200
    assert ((red - blue) > 90).sum() > 200
    assert seen.text("#legend-range").startswith("from 1 px (dark) to ")
    seen.keep("changes")


def test_a_click_on_the_picture_and_a_sorted_table_find_instances(seen: Any) -> None:
    seen.choose_sample("Ball game")
    seen.refine()
    seen.page.get_by_role("button", name="Changed px").click()
    seen.page.get_by_role("button", name="Changed px").click()
    changed = [int(row[4].replace(",", "")) for row in seen.rows()]
    assert changed == sorted(changed, reverse=True)
    assert seen.page.get_attribute("th[data-key=changed_pixels]", "aria-sort") == "descending"
    assert seen.page.get_attribute("th[data-key=index]", "aria-sort") == "none"
    box = seen.page.locator("#canvas").bounding_box()
    # The batter's shirt, of a photograph of 640 x 420 px that fills the stage from top to bottom.
    scale = box["height"] / 420
    left = box["x"] + (box["width"] - 640 * scale) / 2
    seen.page.mouse.click(left + 500 * scale, box["y"] + 250 * scale)
    assert seen.text("#table tr.selected th") == "8"


def test_another_image_does_not_keep_the_masks_of_a_sample(seen: Any) -> None:
    seen.choose_sample("Aeroplane")
    seen.page.set_input_files("#image-file", PHOTO)
    seen.page.get_by_text("Now choose the masks.").wait_for()
    assert seen.page.is_disabled("#refine")
    assert seen.page.is_hidden("#credit")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(browser: Any, address: str, scheme: str) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    with driver.visit(browser, address, **phone) as seen:
        assert seen.sideways() == 0
        seen.page.tap(".options summary")
        seen.page.tap("#paste summary")
        seen.page.tap("#key-panel summary")
        assert seen.sideways() == 0
        seen.page.tap("#key-panel summary")
        seen.page.tap(".options summary")
        seen.page.tap("#paste summary")
        seen.page.get_by_role("button", name="Ball game").tap()
        seen.page.wait_for_selector("#refine:enabled")
        seen.page.tap("#refine")
        seen.page.wait_for_selector("#results:not([hidden])")
        seen.page.tap(".provenance summary")
        seen.page.tap("#table tbody tr:nth-child(4) td:last-child")
        assert seen.sideways() == 0
        seen.keep(f"phone-{scheme}")
        for button in seen.page.locator(".downloads button, #refine, .zoom button").all():
            assert button.bounding_box()["height"] >= 36
        assert seen.errors == []
        assert seen.elsewhere == []


def test_the_dark_page_is_dark(browser: Any, address: str) -> None:
    with driver.visit(browser, address, color_scheme="dark") as seen:
        ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(int(part) for part in ground.strip("rgb()").split(",")) < 40
        seen.choose_sample("Kitchen")
        seen.refine()
        seen.keep("dark")
        assert seen.errors == []


def test_every_control_has_a_name(seen: Any) -> None:
    seen.choose_sample("Aeroplane")
    seen.refine()
    nameless = seen.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, summary, a")]
          .filter((one) => !(one.labels?.length || one.ariaLabel || one.textContent.trim() || one.title))
          .map((one) => one.outerHTML)"""
    )
    assert nameless == []
