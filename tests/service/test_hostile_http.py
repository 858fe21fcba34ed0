"""Everything that a stranger may send over HTTP: refused in our words, and the next valid request succeeds."""

from __future__ import annotations

import base64
import gzip
import io
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image
from running import Running, jpeg, png, scene

CANARY = "canary-7f3a"
IMAGE, MASKS = scene()
PNG = png(IMAGE)
RLES = [mask.to_coco() for mask in MASKS]
H, W = IMAGE.shape[:2]


@pytest.fixture(autouse=True)
def still_there(server: Running) -> Iterator[None]:
    """After each of these the process lives, and serves."""
    yield
    assert server.process.poll() is None
    answer = server.refine()
    assert answer.status_code == 200
    assert len(answer.json()["instances"]) == 2


def refused(answer: httpx.Response, status: int, field: str | None = None) -> dict[str, str]:
    """Check the form of a refusal."""
    assert answer.status_code == status, answer.text[:500]
    assert len(answer.content) <= 4096
    assert CANARY not in answer.text
    body: dict[str, str] = answer.json()
    assert set(body) == {"code", "message", "field", "request_id"}
    assert body["code"]
    assert body["message"]
    if field is not None:
        assert body["field"].startswith(field), body
    return body


def post_parts(server: Running, image: bytes = PNG, masks: object = None, **fields: str) -> httpx.Response:
    text = masks if isinstance(masks, str) else json.dumps(RLES if masks is None else masks)
    return httpx.post(f"{server.url}/v1/refine", files={"image": image}, data={"masks": text, **fields}, timeout=60)


def post_json(server: Running, **values: object) -> httpx.Response:
    body = {"image": base64.b64encode(PNG).decode(), "masks": RLES, **values}
    return httpx.post(f"{server.url}/v1/refine", json=body, timeout=60)


def post_raw(server: Running, body: bytes, content_type: str = "application/json", **headers: str) -> httpx.Response:
    sent = {"content-type": content_type, **headers}
    return httpx.post(f"{server.url}/v1/refine", content=body, headers=sent, timeout=60)


def talk(server: Running, data: bytes, seconds: float = 10) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are; status, headers and body of what comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


# Multipart


def test_01_no_boundary(server: Running) -> None:
    refused(post_raw(server, b"--x\r\n\r\n--x--", "multipart/form-data"), 400)


def test_02_truncated_body(server: Running) -> None:
    body = b'--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n' + PNG[:500]
    refused(post_raw(server, body, "multipart/form-data; boundary=x"), 400)


def test_03_missing_or_empty_image(server: Running) -> None:
    answer = httpx.post(f"{server.url}/v1/refine", files={"other": b"x"}, data={"masks": json.dumps(RLES)})
    refused(answer, 422, "image")
    refused(post_parts(server, b""), 422, "image")


def test_04_too_many_parts(server: Running) -> None:
    files = [("mask", PNG[:20]) for _ in range(2000)]
    refused(httpx.post(f"{server.url}/v1/refine", files=[("image", PNG), *files]), 400)


def test_05_a_huge_part_is_refused_before_it_is_read(server: Running) -> None:
    head = b"POST /v1/refine HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data; boundary=x\r\n"
    status, headers, body = talk(server, head + b"content-length: 200000000\r\n\r\n--x\r\n")
    assert (status, headers["connection"], json.loads(body)["code"]) == (413, "close", "too_large")


def test_06_a_file_name_is_ignored(server: Running) -> None:
    files = {"image": ("../../etc/passwd", PNG, "image/png")}
    answer = httpx.post(f"{server.url}/v1/refine", files=files, data={"masks": json.dumps(RLES)}, timeout=60)
    assert answer.status_code == 200
    assert "passwd" not in answer.text


def test_07_two_images(server: Running) -> None:
    files = [("image", PNG), ("image", PNG)]
    answer = httpx.post(f"{server.url}/v1/refine", files=files, data={"masks": json.dumps(RLES)})
    refused(answer, 422, "image")


def test_08_giant_headers_of_a_part(server: Running) -> None:
    for head in (b"x: " + b"a" * 100_000, b"\r\n".join(b"x%d: a" % n for n in range(500))):
        body = b"--x\r\n" + head + b'\r\ncontent-disposition: form-data; name="image"\r\n\r\nabc\r\n--x--\r\n'
        refused(post_raw(server, body, "multipart/form-data; boundary=x"), 400)


@pytest.mark.parametrize(
    "lengths",
    [b"content-length: -5\r\n", b"content-length: 5\r\ntransfer-encoding: chunked\r\n", b"content-length: 1_0\r\n"],
)
def test_09_lengths_that_lie(server: Running, lengths: bytes) -> None:
    head = b"POST /v1/refine HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    status, headers, body = talk(server, head + lengths + b"\r\n0\r\n\r\n")
    assert (status, headers["connection"]) == (400, "close")
    assert set(json.loads(body)) == {"code", "message", "field", "request_id"}


def test_10_a_stalled_body(server: Running) -> None:
    head = b"POST /v1/refine HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"
    status, headers, body = talk(server, head, seconds=30)
    assert (status, headers["connection"], json.loads(body)["code"]) == (408, "close", "request_timeout")


def test_11_a_host_that_is_none(server: Running) -> None:
    status, _, body = talk(server, b"GET /v1/models HTTP/1.1\r\nhost: a/?x\r\nconnection: close\r\n\r\n")
    assert (status, json.loads(body)["field"]) == (400, "host")


# JSON


@pytest.mark.parametrize("body", [b"", b"{", b'{"image": "', b"nonsense"])
def test_13_empty_and_truncated_json(server: Running, body: bytes) -> None:
    refused(post_raw(server, body), 400)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_14_deeply_nested_json(server: Running, opening: bytes) -> None:
    refused(post_raw(server, b'{"masks": ' + opening * 100_000), 400)
    closing = b"]" if opening == b"[" else b"}"
    refused(post_raw(server, b'{"masks": ' + opening * 300 + b"1" + closing * 300 + b"}"), 400)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "1" * 300 + ".0e5000"])
def test_15_numbers_that_are_none(server: Running, number: str) -> None:
    body = f'{{"image": "{base64.b64encode(PNG).decode()}", "masks": [[[{number}, 1, 2, 3, 4, 5]]]}}'
    refused(post_raw(server, body.encode()), 422)
    refused(post_parts(server, nms=number), 422)


def test_16_an_integer_of_5000_digits(server: Running) -> None:
    refused(post_raw(server, b'{"masks": [' + b"9" * 5000 + b"]}"), 400)


def test_17_300_mb_of_json(server: Running) -> None:
    head = b"POST /v1/refine HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    status, _, body = talk(server, head + b"content-length: 300000000\r\n\r\n{")
    assert (status, json.loads(body)["code"]) == (413, "too_large")
    # Without a length to go by, it ends as soon as the limit is passed.
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(300):
            connection.sendall(chunk)
        received = connection.recv(65_536)
    assert b" 413 " in received.split(b"\r\n")[0]


@pytest.mark.parametrize("line", [b"TRACE /v1/refine/stream", b"POST /v1/models", b"POST /v1/nothing"])
def test_17_a_refusal_arrives_though_the_body_comes_after_it(server: Running, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(line + b" HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n")
        time.sleep(0.3)
        for _ in range(30):
            connection.sendall(b" " * 10_000)
            time.sleep(0.001)
        received = b""
        while part := connection.recv(65_536):
            received += part
    assert json.loads(received.split(b"\r\n\r\n", 1)[1])["code"] in ("method_not_allowed", "not_found")


@pytest.mark.parametrize("junk", ["!!!!", "data:image/png;base64,AAAA", "AAAA\nAAAA", "A", ""])
def test_18_junk_inside_base64(server: Running, junk: str) -> None:
    refused(post_json(server, image=junk), 422, "image")
    refused(post_json(server, masks=[{"png": junk}]), 422, "masks[0]")
    refused(post_json(server, masks=None, index_mask=junk), 422)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://169.254.169.254/latest", "https://example.com/a.png"])
def test_19_urls_while_they_are_off(server: Running, url: str) -> None:
    body = {"image_url": url, "masks": RLES}
    refused(httpx.post(f"{server.url}/v1/refine", json=body), 422, "image_url")


def test_21_text_that_is_none(server: Running) -> None:
    refused(post_raw(server, b'{"weights": "\xff\xfe"}'), 400)
    refused(post_raw(server, b'{"weights": "\\ud800", "masks": [], "image": "AAAA"}'), 400)
    refused(post_form(server, "weights", b"\xff\xfe"), 400)


def post_form(server: Running, name: str, value: bytes) -> httpx.Response:
    part = b'--x\r\ncontent-disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    body = (
        part % (b"image", PNG)
        + part % (b"masks", json.dumps(RLES).encode())
        + part % (name.encode(), value)
        + b"--x--\r\n"
    )
    return post_raw(server, body, "multipart/form-data; boundary=x")


def test_22_a_gzip_bomb(server: Running) -> None:
    bomb = gzip.compress(b" " * 100_000_000)
    assert len(bomb) < 200_000
    refused(post_raw(server, bomb, **{"content-encoding": "gzip"}), 413)
    refused(post_raw(server, gzip.compress(b"{}")[:-6], **{"content-encoding": "gzip"}), 400)
    refused(post_raw(server, b"abc", **{"content-encoding": "br"}), 415)
    good = gzip.compress(json.dumps({"image": base64.b64encode(PNG).decode(), "masks": RLES}).encode())
    assert post_raw(server, good, **{"content-encoding": "gzip"}).status_code == 200


def test_23_keys_twice_or_unknown(server: Running) -> None:
    refused(post_raw(server, b'{"image": "AAAA", "image": "AAAA", "masks": []}'), 422)
    refused(post_json(server, **{CANARY: 1}), 422)
    refused(post_parts(server, **{CANARY: "1"}), 422)
    refused(post_form(server, "masks", b"[]"), 422, "masks")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nms", 2),
        ("passes", 0),
        ("passes", 2.5),
        ("caution", -1),
        ("reach", 5000),
        ("guard", "maybe"),
        ("encoding", CANARY),
    ],
)
def test_options_out_of_range_are_named(server: Running, field: str, value: object) -> None:
    refused(post_json(server, **{field: value}), 422, field)
    refused(post_parts(server, **{field: str(value)}), 422, field)


def test_a_content_type_that_is_not_read(server: Running) -> None:
    refused(post_raw(server, b"a=1", "application/x-www-form-urlencoded"), 415)


# Images


def bomb_png(side: int) -> bytes:
    """A valid PNG of one colour, as large as it says."""
    row = b"\0" * (side // 8 + 1)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (
            (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)),
            (b"IDAT", data),
            (b"IEND", b""),
        )
    )


def test_31_a_png_that_claims_to_be_huge(server: Running) -> None:
    data = bytearray(png(np.zeros((2, 2), np.uint8)))
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    refused(post_parts(server, bytes(data)), 422, "image")


def test_32_a_png_bomb(server: Running) -> None:
    bomb = bomb_png(20_000)
    assert len(bomb) < 200_000
    refused(post_parts(server, bomb), 422, "image")
    files = [("image", PNG), ("index_mask", bomb)]
    refused(httpx.post(f"{server.url}/v1/refine", files=files, timeout=60), 422, "index_mask")
    files = [("image", PNG), ("mask", bomb)]
    refused(httpx.post(f"{server.url}/v1/refine", files=files, timeout=60), 422, "masks[0]")


def test_33_a_truncated_jpeg(server: Running) -> None:
    data = jpeg(IMAGE)
    refused(post_parts(server, data[: len(data) // 2]), 422, "image")


@pytest.mark.parametrize("size", [(1, 1), (60_000, 1), (1, 60_000), (3, 7)])
def test_34_images_of_odd_sizes(server: Running, size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    answer = post_parts(
        server,
        png(image),
        [{"size": list(size), "counts": [0, 1, size[0] * size[1] - 1] if size != (1, 1) else [0, 1]}],
    )
    assert answer.status_code == 200
    assert answer.json()["height"] == size[0]


def many_frames(kind: str) -> bytes:
    out = io.BytesIO()
    frames = [Image.fromarray(IMAGE), Image.fromarray(255 - IMAGE)]
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_35_animated_and_many_pages(server: Running, kind: str) -> None:
    refused(post_parts(server, many_frames(kind)), 422, "image")
    refused(post_parts(server, many_frames("GIF")), 415, "image")


@pytest.mark.parametrize("mode", ["I;16", "CMYK", "P", "RGBA", "L", "LA", "1"])
def test_36_images_that_are_converted(server: Running, mode: str) -> None:
    out = io.BytesIO()
    if mode == "I;16":
        Image.fromarray(IMAGE[..., 0].astype(np.uint16) * 257).save(out, "PNG")
    else:
        Image.fromarray(IMAGE).convert("L" if mode == "LA" else "RGB").convert(mode).save(
            out, "JPEG" if mode == "CMYK" else "PNG"
        )
    answer = post_parts(server, out.getvalue())
    assert answer.status_code == 200, answer.text


def test_37_an_exif_rotation_and_a_mask_that_was_not_turned(server: Running) -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(IMAGE).save(out, "JPEG", exif=exif)
    body = refused(post_parts(server, out.getvalue()), 422, "masks[0]")
    assert "exif_policy" in body["message"]
    assert post_parts(server, out.getvalue(), exif_policy="ignore").status_code == 200


@pytest.mark.parametrize(
    "text", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html><script>alert(1)</script></html>"]
)
def test_38_markup_that_is_called_png(server: Running, text: bytes) -> None:
    files = {"image": ("a.png", text, "image/png")}
    refused(httpx.post(f"{server.url}/v1/refine", files=files, data={"masks": json.dumps(RLES)}), 415, "image")


def test_39_a_jpeg_that_is_a_zip_too(server: Running) -> None:
    assert post_parts(server, jpeg(IMAGE) + b"PK\x03\x04" + b"\0" * 500).status_code == 200


# Masks

BAD_MASKS: dict[str, object] = {
    "40 another size": {"size": [10, 10], "counts": [100]},
    "41 too short": {"size": [H, W], "counts": [5, 5]},
    "41 too long": {"size": [H, W], "counts": [5, H * W]},
    "42 unterminated": {"size": [H, W], "counts": "o"},
    "42 NUL": {"size": [H, W], "counts": "\0\0"},
    "42 not ASCII": {"size": [H, W], "counts": "é" * 40},
    "43 size 0": {"size": [0, W], "counts": [0]},
    "43 negative": {"size": [-H, W], "counts": [5]},
    "43 float": {"size": [H + 0.5, W], "counts": [5]},
    "43 huge": {"size": [200_000, 200_000], "counts": [5]},
    "45 1e18": [[0, 0, 1e18, 0, 5, 5]],
    "46 odd": [[0, 0, 5, 0, 5]],
    "46 few": [[0, 0, 5, 0]],
    "46 many": [[0.0, 1.0] * 500_000],
    "no mask": 7,
    "text": CANARY,
    "null": None,
    "an empty list": [],
    "a record without": {"id": 3},
    "a list of text": [[CANARY] * 6],
}


@pytest.mark.parametrize("name", BAD_MASKS)
def test_masks_that_are_none(server: Running, name: str) -> None:
    field = "masks[1]"
    refused(post_parts(server, masks=[RLES[0], BAD_MASKS[name]]), 422, field)
    refused(post_json(server, masks=[RLES[0], BAD_MASKS[name]]), 422, field)


def test_a_mask_of_another_size_is_an_invalid_mask(server: Running) -> None:
    body = refused(post_json(server, masks=[RLES[0], BAD_MASKS["40 another size"]]), 422, "masks[1]")
    assert body["code"] == "invalid_mask"
    assert "masks[1] is 10x10 px but the image is" in body["message"]


def test_44_counts_as_python_prints_them(server: Running) -> None:
    counts = "b'" + RLES[0]["counts"] + "'"
    body = refused(post_parts(server, masks=[{"size": [H, W], "counts": counts}]), 422, "masks[0]")
    assert "decode" in body["message"]


@pytest.mark.parametrize(("value", "reason"), [(0, "empty"), (1, "fills")])
def test_47_empty_and_full_masks_come_back(server: Running, value: int, reason: str) -> None:
    counts = [H * W] if not value else [0, H * W]
    answer = post_parts(server, masks=[{"size": [H, W], "counts": counts}, RLES[0]])
    assert answer.status_code == 200
    first = answer.json()["instances"][0]
    assert reason in first["abstained"]
    assert first["area"] == value * H * W
    assert first["changed_pixels"] == 0


def test_masks_in_no_way_or_in_two(server: Running) -> None:
    refused(httpx.post(f"{server.url}/v1/refine", files={"image": PNG}), 422, "masks")
    files = [("image", PNG), ("mask", PNG)]
    refused(httpx.post(f"{server.url}/v1/refine", files=files, data={"masks": json.dumps(RLES)}), 422, "masks")
    refused(post_json(server, masks=[]), 422, "masks")
    refused(post_json(server, masks=[RLES[0]] * 1001), 422, "masks")


def test_a_small_request_cannot_ask_for_endless_work(server: Running) -> None:
    refused(post_parts(server, nms="0.99"), 422, "nms")
    stripes = [6] * (900 * 900 // 6)
    answer = post_parts(
        server, png(np.zeros((900, 900, 3), np.uint8)), [{"size": [900, 900], "counts": stripes}] * 8, nms="0.7"
    )
    refused(answer, 422, "masks")
    answer = post_raw(server, b'{"masks": [' + b"[]," * 2_100_000 + b"[]]}")
    refused(answer, 422)


def test_index_masks_that_are_none(server: Running) -> None:
    for data, status in ((PNG, 422), (jpeg(IMAGE), 422), (b"GIF89a", 415), (png(np.zeros((5, 5), np.uint8)), 422)):
        files = [("image", PNG), ("index_mask", data)]
        refused(httpx.post(f"{server.url}/v1/refine", files=files), status, "index_mask")


# Names


@pytest.mark.parametrize("name", ["../x", "..%2Fx", "%2e%2e/x", "a" * 100, "a b"])
def test_56_model_names_that_lead_elsewhere(server: Running, name: str) -> None:
    status, _, body = talk(
        server, f"GET /v1/models/{name.replace(' ', '%20')} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode()
    )
    assert status == 400
    assert json.loads(body)["field"] == "weights"
    if "%" not in name and len(name) < 60:
        refused(post_parts(server, weights=name), 400, "weights")


def test_models_that_are_not_served(server: Running) -> None:
    refused(httpx.get(f"{server.url}/v1/models/other"), 404)
    refused(post_parts(server, weights="other"), 404, "weights")
    refused(post_parts(server, refiner="sharpmask"), 404, "refiner")
    refused(post_parts(server, precision="bf16"), 404, "precision")


@pytest.mark.parametrize("path", ["/nothing", "/static/../settings.py", "/static/%2e%2e/settings.py", "/static/"])
def test_paths_that_lead_nowhere(server: Running, path: str) -> None:
    status, _, body = talk(server, f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
    assert (status, json.loads(body)["code"]) == (404, "not_found")


def test_a_method_that_is_not_for_this_path(server: Running) -> None:
    refused(httpx.get(f"{server.url}/v1/refine"), 405)


def test_bytes_that_are_not_http(server: Running) -> None:
    status, headers, body = talk(server, b"\x16\x03\x01 hello\r\n\r\n")
    assert (status, headers["connection"], json.loads(body)["code"]) == (400, "close", "bad_request")


def test_one_bad_request_of_many_harms_no_other(server: Running) -> None:
    from concurrent.futures import ThreadPoolExecutor

    wanted = server.refine().json()["instances"]
    calls: list[Callable[[], Any]] = [
        server.refine if n % 2 else (lambda: post_parts(server, masks=[RLES[0], BAD_MASKS["41 too long"]]))
        for n in range(12)
    ]
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda call: call(), calls))
    for n, answer in enumerate(answers):
        if n % 2:
            assert answer.json()["instances"] == wanted
        else:
            refused(answer, 422, "masks[1]")


def test_decoded_sizes_are_what_opencv_is_held_to() -> None:
    assert cv2.imdecode(np.frombuffer(bomb_png(64), np.uint8), cv2.IMREAD_GRAYSCALE).shape == (64, 64)
