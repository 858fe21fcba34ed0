"""The page as a file: what is in it, what is not, and that strangers' texts stay texts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskmend.clients.formats.base import Instance
from maskmend.clients.report.document import ERRORS_LISTED
from maskmend.clients.report.items import About, Item
from maskmend.clients.report.page import SCRIPTS, embedded, script_text
from maskmend.clients.report.write import write_report
from maskmend.patcher import Rle
from maskmend.patcher.errors import ImageError, JobError, MaskError

Read = Callable[[Path], Any]
STATIC = Path(__file__).parents[3] / "clients/maskmend/clients/report/static"
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]><img src=x onerror=alert(1)>",
    "\" onload='x' {{script}} {{crops}}",
    "\u202egpj.exe \u2028 \ud83d",
    "a" * 5000,
)


class Elements(HTMLParser):
    """Names and attributes of all elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_rows_are_in_order_and_figures_are_of_all(group: list[Item], tmp_path: Path, read: Read) -> None:
    page = read(write_report(tmp_path / "out", [group], About("T")))
    assert [row["number"] for row in page.rows] == [4, 3, 2, 1, 0]
    assert page.report["all"] == 5
    assert page.report["images"] == ["photograph.png"]
    assert page.report["labels"] == ["cat", "dog"]
    (changed, unchanged, kept) = page.report["outcomes"]
    assert (changed, unchanged, kept[1]) == (["changed", 4], ["unchanged", 0], 1)
    first = page.rows[0]
    assert first["farthest"] == pytest.approx(4.0)
    assert (first["confidence"], first["score"], first["segmenter"]) == (0.9, 0.8, 0.5)
    assert first["before"] is first["after"] is None
    titles = [one["title"] for one in page.report["histograms"]]
    assert any("Farthest" in title for title in titles)
    assert not any("ground truth" in title for title in titles)
    assert set(page.crops[0]["masks"]) == {"before", "after"}
    assert set(page.crops[4]["masks"]) == {"before"}


def test_the_most_changed_are_shown_where_not_all_can_be(group: list[Item], tmp_path: Path, read: Read) -> None:
    for order in (group, group[::-1], [group[2], group[4], group[0], group[3], group[1]]):
        page = read(write_report(tmp_path / "out", [order], About("T"), limit=2))
        assert [row["number"] for row in page.rows] == [4, 3]
        assert (page.report["all"], len(page.crops)) == (5, 2)
        assert sum(page.report["histograms"][0]["counts"]) == 4


def test_the_same_input_makes_the_same_bytes(group: list[Item], tmp_path: Path) -> None:
    pages = [write_report(tmp_path / name, [group], About("T")).read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["index.html"]


def test_the_policy_lets_the_pages_own_script_and_style_run_and_nothing_else(group: list[Item], tmp_path: Path) -> None:
    text = write_report(tmp_path, [group], About("T")).read_text()
    elements = Elements(text).found
    (policy,) = [a["content"] for tag, a in elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    for kind, pattern in (("script-src", r"<script>(.*?)</script>"), ("style-src", r"<style>(.*?)</style>")):
        (inside,) = re.findall(pattern, text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag, attributes in elements:
        assert "style" not in attributes, tag
        assert not any(name.startswith("on") for name in attributes), tag
        assert (attributes.get("src"), attributes.get("href", "#")[:1] in "#d") == (None, True)
    assert "http" not in text.split("</style>")[1]


def test_the_scripts_put_texts_into_the_page_as_texts_only() -> None:
    assert {path.stem for path in STATIC.glob("*.js")} == set(SCRIPTS)
    assert "</" not in script_text()
    assert not re.search(r"^(import|export)\b", script_text(), re.MULTILINE)
    for file in STATIC.iterdir():
        text = file.read_text()
        assert not re.search(r"https?://", text), file
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Storage", "fetch("):
            assert sink not in text, (file, sink)


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_strangers_change_nothing_but_the_texts(
    group: list[Item], tmp_path: Path, read: Read, text: str
) -> None:
    plain = Elements(write_report(tmp_path, [group], About("T")).read_text()).found
    instance = Instance(text, text, 0.5, True, {"category_id": 1})
    hostile = [replace(item, instance=instance, abstained=text if item.abstained else None) for item in group]
    about = About(text, (text, text), [(text, 1, text)], [(text, text)], [], [[text, text]], text)
    path = write_report(tmp_path, [hostile], replace(about, errors=[{"index": 0, "code": text, "message": text}]))
    found = Elements(path.read_text(encoding="utf-8")).found
    assert [tag for tag, _ in found] == [tag for tag, _ in plain]
    report = read(path).report
    shown = text.encode("utf-8", "replace").decode()
    assert report["images"] == [shown if len(shown) <= 300 else shown[:299] + "…"]
    assert report["title"] == report["errors"][0][2] == report["images"][0]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_embedded_values_come_back_and_hold_no_markup(value: Any) -> None:
    data = embedded(value)
    assert data.isascii()
    assert not set(data) & set(b"<>&")
    assert json.loads(data) == value


def test_what_cannot_be_shown_is_listed_and_the_rest_goes_on(group: list[Item], tmp_path: Path, read: Read) -> None:
    def missing() -> Path:
        raise ImageError("gone.jpg is not in the images folder", field="file_name")

    def broken(height: int, width: int) -> tuple[Rle, Rle]:
        raise MaskError("segmentation.counts ends in the middle of a number", field="segmentation.counts")

    lost = [replace(item, number=10 + item.number, photograph=missing) for item in group]
    group[2] = replace(group[2], masks=broken)
    told = {"index": 99, "code": "invalid_mask", "message": "of the job"}
    page = read(write_report(tmp_path, [lost, group], About("T", errors=[told])))
    assert [row["number"] for row in page.rows] == [4, 3, 1, 0]
    assert page.report["failed"] == 7
    assert [entry[0] for entry in page.report["errors"]] == [99, 2, 10, 11, 12, 13, 14]
    assert page.report["errors"][1][1:] == ["invalid_mask", "segmentation.counts ends in the middle of a number"]
    many = [{"index": n, "code": "c", "message": "m"} for n in range(ERRORS_LISTED + 50)]
    page = read(write_report(tmp_path, [], About("T", errors=many)))
    assert (len(page.report["errors"]), page.report["failed"]) == (ERRORS_LISTED, ERRORS_LISTED + 50)


def test_no_instance_is_a_report_too(tmp_path: Path, read: Read) -> None:
    page = read(write_report(tmp_path, [], About("T")))
    assert (page.rows, page.crops, page.report["histograms"]) == ([], [], [])


def test_a_folder_that_cannot_be_written_is_told(group: list[Item], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match="cannot be written"):
        write_report(tmp_path / "file" / "report", [group], About("T"))
    (tmp_path / "taken" / "index.html").mkdir(parents=True)
    with pytest.raises(JobError, match=r"index\.html cannot be written"):
        write_report(tmp_path / "taken", [group], About("T"))
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["index.html"]


def test_progress_counts_instances(group: list[Item], tmp_path: Path) -> None:
    told: list[int] = []
    write_report(tmp_path, [group[:2], group[2:]], About("T"), progress=told.append)
    assert told == [2, 5]


def test_a_photograph_is_read_as_its_orientation_says(tmp_path: Path, read: Read) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="pillow is not installed; the photograph needs an EXIF tag")
    picture = pillow.fromarray(np.full((40, 100, 3), 90, np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    sizes: list[tuple[int, int]] = []

    def masks(height: int, width: int) -> tuple[Rle, Rle]:
        sizes.append((height, width))
        mask = Rle.from_dense(np.eye(height, width, dtype=bool))
        return mask, mask

    item = Item(0, Instance("turned.jpg"), lambda: tmp_path / "turned.jpg", masks)
    for policy in ("apply", "ignore"):
        write_report(tmp_path / "out", [[item]], About("T"), exif_policy=policy)
    assert sizes == [(100, 40), (40, 100)]
