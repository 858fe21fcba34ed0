"""The page at / in a browser, against a running server: looking at pictures, on any screen."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import page_driver as driver
import pytest
from page_files import PHOTO


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
