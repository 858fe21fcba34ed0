from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskmend.patcher import image_size as module
from maskmend.patcher.errors import ImageError
from maskmend.patcher.image_size import image_size
from maskmend.patcher.images import ExifPolicy, load_image


def saved(path: Path, kind: str, orientation: int | None) -> Path:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8))
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(path, kind, **({"exif": exif} if orientation is not None else {}))
    return path


@pytest.mark.parametrize("policy", ["apply", "ignore"])
@pytest.mark.parametrize(
    ("kind", "orientation"),
    [("BMP", None), *((kind, n) for kind in ("JPEG", "PNG", "WEBP", "TIFF") for n in (None, *range(10)))],
)
def test_it_is_what_the_decoder_gives(tmp_path: Path, kind: str, orientation: int | None, policy: ExifPolicy) -> None:
    path = saved(tmp_path / "a", kind, orientation)
    assert image_size(path, exif_policy=policy) == load_image(path, exif_policy=policy).shape[:2]


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_and_no_decoding_of_jpegs(tmp_path: Path, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    Image.new("RGB", (60, 40)).save(out, "JPEG")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    body = b"Exif\0\0" + tiff
    data = out.getvalue()
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    (tmp_path / "a.jpg").write_bytes(data)
    assert load_image(tmp_path / "a.jpg").shape[:2] == (60, 40)
    monkeypatch.setattr(module, "load_image", lambda *a, **k: pytest.fail("decoded"))
    assert image_size(tmp_path / "a.jpg") == (60, 40)
    assert image_size(tmp_path / "a.jpg", exif_policy="ignore") == (40, 60)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe1\xff\xff" + bytes(50))
    for path in (tmp_path / "a.jpg", tmp_path / "none.jpg", tmp_path):
        with pytest.raises(ImageError):
            image_size(path)
