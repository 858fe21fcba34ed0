"""What is fuzzed: each target takes any bytes, and returns whether a reader took them or refused them in our words.

Anything else that is raised is a finding: so are a result that breaks its promise, and a refusal that repeats its input.
The targets are used by campaign.py, which looks for new inputs, and by test_corpus.py, which runs those that were kept.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from maskmend.clients.formats import format_of
from maskmend.clients.formats.base import Policies
from maskmend.patcher import MaskError, MaskmendError, Rle, as_rle, polygons_to_rle
from maskmend.patcher.image_size import image_size
from maskmend.patcher.images import load_image
from maskmend.patcher.mask_images import read_index_mask, read_mask

MOST_PIXELS = 250_000
"""Decoders are held to this, so that a finding is one of logic and not of size."""
_LONGEST_REFUSAL = 400
_FORMATS = ("coco", "panoptic", "label-studio", "labelme")


def refused(error: MaskmendError) -> str:
    """Check a refusal."""
    if not str(error) or len(str(error)) > _LONGEST_REFUSAL:
        raise AssertionError(f"a refusal of {len(str(error))} characters") from error
    return "refused"


def check_mask(rle: Rle) -> None:
    """What holds of every mask that was taken."""
    if int(rle.counts.sum(dtype=np.int64)) != rle.height * rle.width or Rle.from_coco(rle.to_coco()) != rle:
        raise AssertionError("runs that do not survive a round trip")
    x, y, w, h = rle.bbox
    if not (0 <= x <= x + w <= rle.width and 0 <= y <= y + h <= rle.height and 0 <= rle.area <= w * h):
        raise AssertionError("a bounding box outside the frame")


def rle(data: bytes) -> str:
    """Two bytes for each side, one for the form of the counts, then the counts."""
    if len(data) < 5:
        return "refused"
    height, width, form = struct.unpack_from("<HHB", data)
    rest = data[5:]
    counts: Any = rest
    if form % 4 == 1:
        counts = rest.decode("latin-1")
    elif form % 4 == 2:
        counts = np.frombuffer(rest[: len(rest) // 2 * 2], "<i2").astype(np.int64).tolist()
    elif form % 4 == 3:
        counts = np.frombuffer(rest[: len(rest) // 8 * 8], "<i8")
    try:
        found = Rle.from_coco({"size": [height, width], "counts": counts})
    except MaskError as error:
        return refused(error)
    check_mask(found)
    return "taken"


def polygons(data: bytes) -> str:
    """A byte for each side, one that says how coordinates are written, then for each part its length and coordinates."""
    if len(data) < 3:
        return "refused"
    height, width, form = data[:3]
    dtype = np.dtype(("<i1", "<i2", "<f4", "<f8")[form % 4])
    parts, at = [], 3
    while at < len(data):
        end = at + 1 + data[at] % 40 * dtype.itemsize
        part = data[at + 1 : end]
        parts.append(np.frombuffer(part[: len(part) // dtype.itemsize * dtype.itemsize], dtype).tolist())
        at = end
    try:
        found = polygons_to_rle(parts, height, width)
    except MaskError as error:
        return refused(error)
    check_mask(found)
    if (found.height, found.width) != (height, width):
        raise AssertionError("a mask of another size than was asked for")
    return "taken"


def mask_image(data: bytes) -> str:
    """A mask, or an index of masks, as a picture."""
    taken = 0
    try:
        check_mask(read_mask(data, max_pixels=MOST_PIXELS))
        taken += 1
    except MaskmendError as error:
        refused(error)
    try:
        masks = list(read_index_mask(data, most=300, max_pixels=MOST_PIXELS))
        together = sum(mask.area for mask in masks)
        if masks and together > masks[0].height * masks[0].width:
            raise AssertionError("indices that share pixels")
        taken += 1
    except MaskmendError as error:
        refused(error)
    return "taken" if taken else "refused"


def image(data: bytes) -> str:
    """A photograph: its header, and all of it."""
    taken = 0
    for policy in ("apply", "ignore"):
        try:
            pixels = load_image(data, exif_policy=policy, max_pixels=MOST_PIXELS)
        except MaskmendError as error:
            refused(error)
            continue
        taken += 1
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise AssertionError("a photograph that is no uint8 [H, W, 3]")
        if image_size(data, exif_policy=policy) != pixels.shape[:2]:
            raise AssertionError("the header was read as another size than the decoder gives")
    return "taken" if taken else "refused"


@cache
def _folder() -> tuple[Path, Path]:
    """A file to write jobs to, and a folder of photographs. One of each process, in memory where there is such a place."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else None))
    (folder / "images").mkdir()
    photograph = Path(__file__).parents[2] / "samples" / "images"
    shutil.copy(sorted(photograph.glob("*.jpg"))[0], folder / "images" / "1.jpg")
    import atexit

    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "job.json", folder / "images"


def job(data: bytes) -> str:
    """A JSON file as `maskmend refine` gets it: opened by what it looks like, every mask read, written again."""
    path, images = _folder()
    path.write_bytes(data)
    try:
        kind = format_of(path)
        if kind.name not in _FORMATS:
            raise AssertionError(f"a JSON file was taken for {kind.name}")
        masks = kind.open(path, images, Policies())
        masks_of = [number for _, numbers in masks.by_image() for number in numbers]
    except MaskmendError as error:
        return refused(error)
    if sorted(masks_of) != list(range(len(masks.instances))):
        raise AssertionError("instances that are of no image, or of two")
    taken = 0
    for number in masks_of:
        try:
            masks.photograph(number)
        except MaskmendError as error:
            refused(error)
        try:
            found = masks.mask(number, 40, 30)
            check_mask(found)
            masks.replace(number, found)
            taken += 1
        except MaskmendError as error:
            refused(error)
    target = path.with_name("out" if kind.writes_folder else "out.json")
    try:
        masks.save(target)
    except MaskmendError as error:
        refused(error)
    finally:
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)
    return "taken" if taken else "refused"


def body(data: bytes) -> str:
    """The body of an HTTP request: JSON, or the parts of a form, by its first byte."""
    from maskmend.service.inputs import InputLimits, read_image, read_masks
    from maskmend.service.requests import read_job

    content_type = "multipart/form-data; boundary=x" if data[:1] == b"-" else "application/json"
    limits = InputLimits(MOST_PIXELS, 100)
    try:
        found = read_job(content_type, data, "id", 20, allow_urls=False)
        pixels = read_image(found.image, found.options.exif_policy, limits)
        for mask in read_masks(found.masks, *pixels.shape[:2], limits):
            check_mask(mask)
    except MaskmendError as error:
        return refused(error)
    return "taken"


def message(data: bytes) -> str:
    """A `RefineRequest` as it comes over gRPC."""
    from google.protobuf.message import DecodeError

    from maskmend.service.inputs import InputLimits, read_image, read_masks
    from maskmend.service.messages import read_job
    from maskmend.service.proto import maskmend_pb2 as pb

    limits = InputLimits(MOST_PIXELS, 100)
    try:
        found = read_job(pb.RefineRequest.FromString(data), "id", limits)
        pixels = read_image(found.image, found.options.exif_policy, limits)
        for mask in read_masks(found.masks, *pixels.shape[:2], limits):
            check_mask(mask)
    except DecodeError:
        return "refused"
    except MaskmendError as error:
        return refused(error)
    return "taken"


def as_mask(data: bytes) -> str:
    """A mask as JSON, as a client or a record holds it."""
    import json

    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return "refused"
    try:
        check_mask(as_rle(value, height=30, width=40))
    except MaskmendError as error:
        return refused(error)
    return "taken"


TARGETS: dict[str, Callable[[bytes], str]] = {
    "rle": rle,
    "polygons": polygons,
    "as_mask": as_mask,
    "mask_image": mask_image,
    "image": image,
    "job": job,
    "body": body,
    "message": message,
}
