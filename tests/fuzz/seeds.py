"""Small valid inputs of every kind, from which a campaign begins."""

from __future__ import annotations

import base64
import io
import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from maskmend.patcher import Rle
from maskmend.patcher.mask_images import write_index_mask, write_mask

FIXTURES = Path(__file__).parents[1] / "clients" / "formats" / "fixtures"
LARGEST = 3000
"""Bytes of a seed."""


def _disk(height: int = 24, width: int = 30, x: int = 12) -> Rle:
    rows, columns = np.indices((height, width))
    return Rle.from_dense((rows - height // 2) ** 2 + (columns - x) ** 2 < 60)


def _pictures() -> list[bytes]:
    """The same few pixels in every format and mode that is read."""
    pixels = (np.indices((24, 30)).sum(0) * 4).astype(np.uint8)
    colour = np.dstack([pixels, 255 - pixels, pixels // 2])
    found = [bytes(cv2.imencode(kind, colour)[1]) for kind in (".png", ".jpg", ".webp", ".bmp", ".tif")]
    found.append(bytes(cv2.imencode(".webp", colour, [cv2.IMWRITE_WEBP_QUALITY, 101])[1]))
    found.append(bytes(cv2.imencode(".png", pixels.astype(np.uint16) * 257)[1]))
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode, kind in (
        ("P", "PNG"),
        ("LA", "PNG"),
        ("1", "PNG"),
        ("CMYK", "JPEG"),
        ("RGB", "JPEG"),
        ("RGB", "WEBP"),
        ("RGB", "TIFF"),
    ):
        out = io.BytesIO()
        more: dict[str, Any] = {} if kind == "PNG" else {"exif": exif}
        Image.fromarray(colour).convert("L" if mode == "LA" else "RGB").convert(mode).save(out, kind, **more)
        found.append(out.getvalue())
    for kind in ("PNG", "WEBP", "TIFF", "GIF"):
        out = io.BytesIO()
        first = Image.fromarray(colour)
        first.save(out, kind, save_all=True, append_images=[Image.fromarray(255 - colour)])
        found.append(out.getvalue())
    return found


def _jobs() -> list[bytes]:
    rle = _disk(40, 30).to_coco()
    record = {"image_id": 1, "category_id": 3, "score": 0.5, "segmentation": rle, "bbox": [1, 2, 3, 4], "area": 9}
    polygon = {**record, "id": 5, "iscrowd": 0, "segmentation": [[1, 2, 20, 3, 18.5, 25]]}
    instances = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 40, "width": 30}],
        "annotations": [polygon],
        "categories": [{"id": 3, "name": "disk"}],
    }
    shape = {"label": "a", "points": [[1, 2], [20, 3], [18, 25]], "shape_type": "polygon", "flags": {}}
    labelme = {"version": "5", "flags": {}, "shapes": [shape], "imagePath": "1.jpg", "imageData": None}
    labelme |= {"imageHeight": 40, "imageWidth": 30}
    result = {"type": "polygonlabels", "from_name": "a", "to_name": "b", "original_width": 30, "original_height": 40}
    result["value"] = {"points": [[1, 2], [20, 3], [18, 25]], "polygonlabels": ["a"]}
    task = {"id": 1, "data": {"image": "1.jpg"}, "annotations": [{"id": 2, "result": [result]}]}
    found: list[Any] = [[record], [polygon], instances, labelme, [task], []]
    texts = [json.dumps(one).encode() for one in found]
    texts += [path.read_bytes() for path in sorted(FIXTURES.rglob("*.json"))]
    return [text for text in texts if len(text) <= LARGEST]


def _bodies() -> list[bytes]:
    png, rle = _pictures()[0], _disk().to_coco()
    image = base64.b64encode(png).decode()
    mask = base64.b64encode(write_mask(_disk())).decode()
    index = base64.b64encode(write_index_mask([_disk()], 24, 30)).decode()
    texts: list[dict[str, Any]] = [
        {"image": image, "masks": [rle], "nms": 0.3, "passes": 2, "guard": False, "encoding": "png"},
        {"image": image, "masks": [{"png": mask}, [[1, 2, 20, 3, 18, 20]], {"segmentation": rle, "id": 3}]},
        {"image": image, "index_mask": index, "exif_policy": "ignore"},
        {"image_url": "http://a/b", "masks": [rle]},
    ]

    def part(name: str, data: bytes, more: str = "") -> bytes:
        return f'--x\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"

    file = '; filename="a"'
    form = part("image", png, file) + part("masks", json.dumps([rle]).encode()) + part("guard", b"off") + b"--x--\r\n"
    files = part("image", png, file) + part("mask", write_mask(_disk()), file) + part("nms", b"0.4") + b"--x--\r\n"
    return [*(json.dumps(text).encode() for text in texts), form, files]


def _messages() -> list[bytes]:
    from maskmend.service.proto import maskmend_pb2 as pb

    rle = _disk().to_coco()
    pixels = np.zeros((6, 7, 3), np.uint8)
    image = pb.Tensor(shape=pixels.shape, dtype="uint8", data=pixels.tobytes())
    dense = np.zeros((2, 6, 7), np.float32)
    dense[:, 2:4, 2:4] = 0.9
    options = pb.RefineOptions(nms=0.3, passes=2, encoding="polygons", weights="bpr-small", timeout_s=3)
    one = pb.Mask(rle=pb.Rle(size=rle["size"], counts=rle["counts"].encode()))
    polygon = pb.Mask(polygons=pb.Polygons(polygons=[pb.Polygon(coordinates=[1, 2, 20, 3, 18, 20])]))
    found = [
        pb.RefineRequest(image=_pictures()[0], masks=[one, polygon, pb.Mask(png=write_mask(_disk()))], options=options),
        pb.RefineRequest(
            image_tensor=image,
            request_id="a",
            mask_tensor=pb.Tensor(shape=dense.shape, dtype="float32", data=dense.tobytes()),
        ),
        pb.RefineRequest(image=_pictures()[0], index_mask=write_index_mask([_disk()], 24, 30)),
    ]
    return [message.SerializeToString() for message in found]


def seeds(name: str) -> list[bytes]:
    """The seeds of a target of targets.py."""
    if name == "rle":
        mask = _disk()
        head, text = struct.pack("<HH", mask.height, mask.width), mask.to_coco()["counts"].encode()
        whole = head + b"\3" + mask.counts.astype("<i8").tobytes()
        return [head + b"\0" + text, head + b"\1" + text, head + b"\2" + mask.counts.astype("<i2").tobytes(), whole]
    if name == "polygons":
        corners = [1, 2, 20, 3, 18, 25]
        return [
            bytes([40, 30, form, 6]) + np.array(corners, dtype).tobytes()
            for form, dtype in enumerate(("<i1", "<i2", "<f4", "<f8"))
        ]
    if name == "as_mask":
        return [
            json.dumps(one).encode()
            for one in (_disk(30, 40).to_coco(), [[1, 2, 20, 3, 18.5, 25]], {"size": [2, 2], "counts": [1, 2, 1]})
        ]
    if name == "mask_image":
        masks = [_disk(), _disk(x=20)]
        return [write_mask(masks[0]), write_index_mask(masks, 24, 30), *_pictures()]
    return {"image": _pictures, "job": _jobs, "body": _bodies, "message": _messages}[name]()
