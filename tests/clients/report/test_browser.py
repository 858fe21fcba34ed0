"""The report in a browser, opened from its file."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from page_driver import BROWSERS, find_browser

from maskmend.clients.formats.base import Instance
from maskmend.clients.report.items import About, Item
from maskmend.clients.report.truth import Fit, Truth
from maskmend.clients.report.write import write_report
from maskmend.patcher import Rle

PATIENCE_MS = 60_000
OPEN_SECONDS = 3.0
ROOT = Path(__file__).parents[3]
REASON = "the coarse mask is already right as far as the refiner can tell"


@dataclass
class Seen:
    """A tab with the report, what went wrong in it, and what it asked for."""

    page: Any
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        return list(self.page.locator(".card .name").all_inner_texts())

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def open_first(self) -> None:
        self.page.locator(".card").first.click()
        self.page.wait_for_selector("#wait", state="hidden")

    def picture(self) -> np.ndarray:
        """The stage's canvas as it looks now, int [H, W, 3] BGR."""
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        shot = self.page.locator("#canvas").screenshot()
        return cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR).astype(int)

    def focused(self) -> str:
        return str(self.page.evaluate("document.activeElement.id || document.activeElement.className"))

    def sideways(self) -> int:
        return int(self.page.evaluate("document.scrollingElement.scrollWidth - document.documentElement.clientWidth"))

    def keep(self, name: str) -> None:
        """Keep a screenshot, where one is wanted."""
        folder = os.environ.get("MASKMEND_ARTEFACTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"report-{name}.png")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = find_browser()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@contextlib.contextmanager
def visit(browser: Any, path: Path, *, drawn: bool = True, **context: Any) -> Iterator[Seen]:
    """The report in a tab of its own; it must end without errors and without a request for anything but itself."""
    tab = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, "locale": "en-GB", **context})
    try:
        page = tab.new_page()
        page.set_default_timeout(PATIENCE_MS)
        seen = Seen(page)
        page.on("console", lambda m: seen.errors.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("dialog", lambda dialog: seen.errors.append(dialog.message))
        page.on("request", lambda r: None if r.url.startswith("data:") else seen.asked.append(r.url))
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        if drawn:
            page.wait_for_selector(".card canvas.drawn", state="attached")
        yield seen
        assert seen.errors == []
        assert seen.asked == [path.resolve().as_uri()]
    finally:
        tab.close()


def disk(x: float, y: float, radius: float) -> Rle:
    rows, columns = np.indices((200, 300))
    return Rle.from_dense((rows - y) ** 2 + (columns - x) ** 2 < radius**2)


@pytest.fixture
def many(photograph: Path) -> list[Item]:
    """130 instances of one photograph, instance n moved by n px or kept by the guard where n divides by 10."""

    def item(number: int) -> Item:
        kept = number % 10 == 0
        before = disk(100, 100, 66)
        after = before if kept else disk(100 + number, 100, 66)
        instance = Instance(f"folder/photo {number % 3}.jpg", ["cat", "dog"][number % 2], 0.5, True, {"image_id": 1})
        score = (number * 37 % 130) / 130
        return Item(
            number, instance, lambda: photograph, lambda h, w: (before, after), 0.9, score, REASON if kept else None
        )

    return [item(number) for number in range(130)]


class _Given(Truth):
    """Ground truth that is the same for every instance."""

    def __init__(self) -> None:
        pass

    def match(self, items: Any, masks: Any) -> list[Fit | None]:
        return [Fit(disk(102, 100, 66), (0.8, 0.5, 0.6, 0.7), (0.9, 0.4, 0.6, 0.8)) for _ in items]


@pytest.fixture
def report(many: list[Item], tmp_path: Path) -> Path:
    counts = [("records", 130, ""), ("changed", 117, "a hint")]
    errors = [{"index": 7, "code": "invalid_mask", "message": "segmentation is missing"}]
    about = About("The report", counts=counts, facts=[("weights", "bpr-small")], errors=errors)
    return write_report(tmp_path / "report", [many], about)


def test_the_gallery_is_sorted_filtered_and_turned(browser: Any, report: Path) -> None:
    with visit(browser, report) as seen:
        page = seen.page
        assert page.title() == seen.text("h1") == "The report"
        assert len(seen.names()) == 60
        assert seen.names()[0] == "dog #129"
        assert (seen.text("#found"), seen.text("#page")) == ("130 instances", "1 to 60")
        page.click("#next")
        page.click("#next")
        assert seen.text("#page") == "121 to 130"
        assert len(seen.names()) == 10
        assert page.is_disabled("#next")
        page.select_option("#sort", "unsure")
        assert seen.names()[0] == "cat #0"
        assert seen.text("#page") == "1 to 60"
        page.select_option("#outcome", "2")
        assert seen.text("#found") == "13 of 130 instances"
        assert all(int(name.split("#")[1]) % 10 == 0 for name in seen.names())
        page.select_option("#outcome", "")
        page.select_option("#label", "1")
        page.fill("#text", "Photo 2.jpg")
        page.get_by_text("21 of 130 instances").wait_for()
        assert {int(name.split("#")[1]) % 6 for name in seen.names()} == {5}
        page.fill("#text", "horse")
        page.get_by_text("No instance fits.").wait_for()
        assert seen.names() == []
        assert seen.text("#errors-title") == "Records with an error (1)"
        charts = page.locator("#charts svg")
        assert charts.count() == 4
        assert "117 changed instances" in charts.first.get_attribute("aria-label")
        seen.keep("filtered")


def test_all_is_done_by_keyboard(browser: Any, report: Path) -> None:
    with visit(browser, report) as seen:
        keys = seen.page.keyboard
        keys.press("Tab")
        assert seen.focused() == "skip"
        keys.press("Enter")
        for _ in range(12):
            keys.press("Tab")
            if seen.focused() == "sort":
                break
        assert seen.focused() == "sort"
        for _ in range(10):
            keys.press("Tab")
            if seen.focused() == "card":
                break
        assert seen.focused() == "card"
        assert seen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        keys.press("ArrowRight")
        keys.press("ArrowDown")
        keys.press("ArrowLeft")
        chosen = seen.page.evaluate("document.activeElement.querySelector('.name').textContent")
        keys.press("Enter")
        seen.page.wait_for_selector("#wait", state="hidden")
        assert seen.text("#detail-title").startswith(f"{chosen} (")
        title = seen.text("#detail-title")
        keys.press("n")
        seen.page.wait_for_selector("#wait", state="hidden")
        assert seen.text("#detail-title") != title
        keys.press("p")
        seen.page.focus("#split")
        keys.press("ArrowLeft")
        assert seen.page.get_attribute("#split", "aria-valuetext") == "49% coarse, 51% refined"
        seen.page.focus("#canvas")
        before = seen.text("#zoom")
        keys.press("+")
        seen.picture()
        assert seen.text("#zoom") != before
        keys.press("0")
        seen.picture()
        assert seen.text("#zoom") == before
        keys.press("Escape")
        assert not seen.page.is_visible("#detail")
        assert seen.page.evaluate("document.activeElement.querySelector('.name').textContent") == chosen


def test_both_sides_of_the_border_show_their_own_mask(browser: Any, report: Path) -> None:
    with visit(browser, report) as seen:
        seen.open_first()
        page = seen.page
        page.uncheck("#outlines")
        page.fill("#fill", "1")
        shares = {}
        for share in (0, 50, 100):
            page.fill("#split", str(share))
            # What lies over the canvas is no part of it.
            picture = seen.picture()[60:, 60:-60]
            middle = picture.shape[1] // 2
            orange, blue = (np.abs(picture - colour).max(axis=2) < 8 for colour in ((36, 138, 255), (255, 197, 54)))
            shares[share] = [
                int(colour[:, part].sum())
                for colour in (orange, blue)
                for part in (slice(0, middle - 60), slice(middle + 60, None))
            ]
        orange_left, orange_right, blue_left, blue_right = shares[50]
        assert blue_left == orange_right == 0
        assert orange_left == shares[100][0] > 5000
        assert blue_right == shares[0][3] > 5000
        assert shares[100][2:] == shares[0][:2] == [0, 0]
        seen.keep("compare")
        page.locator("input[value=changes]").check(force=True)
        assert page.is_hidden("#split")
        assert seen.text("#legend").strip().startswith("added")
        picture = seen.picture()
        assert ((picture[:, :, 0] - picture[:, :, 2]) > 80).sum() > 1000
        assert ((picture[:, :, 2] - picture[:, :, 0]) > 80).sum() > 1000
        seen.keep("changes")


def test_pixels_can_be_told_apart_at_high_zoom(browser: Any, report: Path) -> None:
    with visit(browser, report) as seen:
        seen.open_first()
        for _ in range(12):
            seen.page.click("#zoom-in")
        picture = seen.picture()
        assert seen.text("#zoom") == "6400%"
        row = picture[picture.shape[0] // 2, 100:-100]
        steps = np.nonzero(np.abs(np.diff(row, axis=0)).max(axis=1) > 0)[0]
        assert len(steps) < 60
        box = seen.page.locator("#canvas").bounding_box()
        seen.page.mouse.move(box["x"] + 300, box["y"] + 200)
        seen.page.mouse.down()
        seen.page.mouse.move(box["x"] + 360, box["y"] + 200, steps=4)
        seen.page.mouse.up()
        assert np.abs(seen.picture() - picture).max() > 0
        seen.page.mouse.wheel(0, 5000)
        seen.picture()
        assert seen.text("#zoom") != "6400%"


def test_ground_truth_is_shown_with_its_measures(browser: Any, many: list[Item], tmp_path: Path) -> None:
    totals = [["", "coarse", "refined"], ["AP", "0.5000", "0.6000"]]
    path = write_report(tmp_path / "report", [many], About("T", totals=totals), truth=_Given())
    with visit(browser, path) as seen:
        assert "130 of 130 instances have a true one" in seen.text("#gains")
        assert "up by more than 0.005 for 130" in seen.text("#gains")
        assert "0.6000" in seen.text("#totals")
        assert "IoU +0.100" in seen.text(".card >> nth=0")
        seen.open_first()
        assert "+0.1000" in seen.text("#fit-table")
        assert "−0.1000" in seen.text("#fit-table")

        def yellow() -> int:
            blue, green, red = np.moveaxis(seen.picture(), 2, 0)
            return int(((np.minimum(red, green) - blue) > 120).sum())

        with_truth = yellow()
        seen.page.uncheck("#truth")
        assert with_truth > yellow() + 100


def test_texts_of_strangers_stay_texts(browser: Any, many: list[Item], tmp_path: Path) -> None:
    text = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    instance = Instance(text, text, 0.5)
    hostile = [replace(item, instance=instance, abstained=text if item.abstained else None) for item in many]
    errors = [{"index": 0, "code": text, "message": text}]
    about = About(text, (text, text), [(text, 1, text)], [(text, text)], errors, [[text, text]], text)
    path = write_report(tmp_path / "report", [hostile], about, truth=_Given())
    with visit(browser, path) as seen:
        assert seen.page.title() == seen.text("h1") == text
        assert seen.names()[0] == f"{text} #129"
        assert text in seen.text("#outcomes")
        seen.page.click("#errors-panel summary")
        assert seen.text("#errors tbody").count(text) == 2
        seen.open_first()
        assert text in seen.text("#figures")
        assert seen.page.locator("img, script:not([id]) ~ script:not([id])").count() == 0
        assert seen.sideways() == 0


def test_the_policy_holds_in_the_browser(browser: Any, report: Path) -> None:
    with visit(browser, report) as seen:
        seen.page.evaluate(
            """() => {
              const script = document.createElement("script");
              script.textContent = "window.ran = true";
              document.body.append(script);
              const image = document.createElement("img");
              image.src = "file:///tmp/none.png";
              document.body.append(image);
            }"""
        )
        assert seen.page.evaluate("window.ran ?? false") is False
        seen.page.wait_for_timeout(300)
        blocked = [error for error in seen.errors if "Content Security Policy" in error]
        assert len(blocked) == len(seen.errors) == 2
        seen.errors.clear()
        seen.asked.remove("file:///tmp/none.png")


def test_a_page_that_was_cut_short_says_so(browser: Any, report: Path) -> None:
    text = report.read_text()
    report.write_text(text[: text.index('id="crop-3"') - 60])
    with visit(browser, report) as seen:
        seen.page.get_by_text("the page holds no crop-7").first.wait_for()
        seen.page.locator(".card").nth(7).click()
        seen.page.get_by_text("it may have been cut short").last.wait_for()
        assert "the page holds no crop-7" in seen.text("#wait")


def test_an_empty_report_opens(browser: Any, tmp_path: Path) -> None:
    with visit(browser, write_report(tmp_path / "report", [], About("T")), drawn=False) as seen:
        assert seen.text("#found") == "0 instances"
        assert seen.page.is_disabled("#next")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(browser: Any, report: Path, scheme: str) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    with visit(browser, report, drawn=False, reduced_motion="reduce", **phone) as seen:
        assert seen.sideways() == 0
        ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(int(part) for part in ground.strip("rgb()").split(",")) < 40) == (scheme == "dark")
        assert seen.page.evaluate("getComputedStyle(document.querySelector('.card')).transitionDuration") == "0s"
        seen.keep(f"phone-{scheme}")
        seen.page.locator(".card").first.tap()
        seen.page.wait_for_selector("#wait", state="hidden")
        assert seen.sideways() == 0
        for button in seen.page.locator("#detail button").all():
            assert button.bounding_box()["height"] >= 36
        seen.keep(f"phone-detail-{scheme}")


def test_every_control_has_a_name(browser: Any, report: Path) -> None:
    with visit(browser, report) as seen:
        seen.open_first()
        nameless = seen.page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, summary, a, svg[role=img]")]
              .filter((one) => !(one.labels?.length || one.ariaLabel || one.textContent.trim() || one.title))
              .map((one) => one.outerHTML)"""
        )
        assert nameless == []
        repeated = seen.page.evaluate(
            "() => { const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);"
            " return ids.filter((id, n) => ids.indexOf(id) !== n); }"
        )
        assert repeated == []


@pytest.mark.slow
def test_five_thousand_instances_open_in_three_seconds(
    browser: Any, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Real photographs and masks, each instance 5000 / 23 times over, every time moved by another distance."""
    import json

    from maskmend.patcher.polygons import polygons_to_rle

    samples = ROOT / "samples"
    document = json.loads((samples / "instances.json").read_text())
    names = {image["id"]: image for image in document["images"]}
    groups: dict[int, list[Item]] = {}
    annotations = document["annotations"]
    for number in range(5000):
        annotation = annotations[number % len(annotations)]
        image = names[annotation["image_id"]]

        def masks(
            height: int, width: int, of: Any = annotation["segmentation"], by: int = number // len(annotations)
        ) -> tuple[Rle, Rle]:
            mask = Rle.from_coco(of) if isinstance(of, dict) else polygons_to_rle(of, height, width)
            return mask, Rle.from_dense(np.roll(mask.to_dense(), by % 9, by % 2))

        path = samples / "images" / image["file_name"]
        item = Item(number, Instance(image["file_name"], str(number % 80)), lambda path=path: path, masks, 0.5, 0.5)
        groups.setdefault(image["id"], []).append(item)
    began = time.monotonic()
    path = write_report(tmp_path / "report", groups.values(), About("5,000"))
    record_property("write_seconds", time.monotonic() - began)
    record_property("page_bytes", path.stat().st_size)
    taken = []
    for _ in range(3):
        tab = browser.new_page(viewport={"width": 1280, "height": 860})
        began = time.monotonic()
        tab.goto(path.resolve().as_uri(), wait_until="commit")
        tab.wait_for_selector(".card canvas.drawn", state="attached")
        tab.select_option("#sort", "farthest")
        tab.wait_for_selector(".card canvas.drawn", state="attached")
        taken.append(time.monotonic() - began)
        assert tab.locator("#found").inner_text() == "5,000 instances"
        tab.close()
    print(f"opened, sorted and drawn in {', '.join(f'{seconds:.2f}' for seconds in taken)} s")
    record_property("open_seconds", taken)
    assert min(taken) < OPEN_SECONDS
