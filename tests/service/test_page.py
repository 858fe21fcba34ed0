"""The page at / in a browser, against a running server: images and masks in, refined masks out, and what goes wrong."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import cv2
import numpy as np
from page_files import COARSE, PHOTO, ROOT, ask, coarse_masks, json_file, png_file, records_of, tab_to
from PIL import Image

from maskmend.patcher import Rle
from maskmend.patcher.mask_images import read_index_mask, write_index_mask, write_mask
from maskmend.patcher.polygons import polygons_to_rle


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
