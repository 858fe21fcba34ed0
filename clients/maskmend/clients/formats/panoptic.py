"""COCO panoptic: a JSON file, and a folder of PNGs whose colours are the ids of segments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import cv2
import numpy as np

from maskmend.clients.coco import SUFFIXES, Record, read_json, write_json
from maskmend.clients.formats.base import Instance, MaskFile, Peek, Picture, Policies, known_fields, score_of
from maskmend.clients.formats.categories import category_numbers, label_of
from maskmend.clients.formats.folders import Photographs, copy_files, inside, new_folder, write_file
from maskmend.clients.formats.index_png import png_names
from maskmend.clients.formats.paint import Values, check_size, painted, repaint, resized
from maskmend.clients.inside import has_file, has_folder, printable
from maskmend.patcher import Rle
from maskmend.patcher._headers import read_header
from maskmend.patcher.errors import JobError, MaskError, MaskmendError
from maskmend.patcher.images import check_image_size, read_image_file
from maskmend.patcher.rle import MAX_PIXELS, is_whole

MOST_ID: Final = 2**24 - 1


@dataclass(frozen=True, slots=True)
class _Place:
    annotation: Record
    segment: Record


class PanopticMasks(MaskFile):
    """A panoptic JSON file and its PNGs: in the folder of the file's name without suffix, else beside the file.

    Segments of categories with `isthing` are instances to refine; stuff and crowds pass through. The PNG stays a
    partition: a thing takes pixels from stuff and void, never from a crowd; what it leaves goes to the nearest stuff or
    void, never to another thing. `area` and `bbox` follow for all segments whose pixels changed.
    """

    name = "panoptic"
    one_per_pixel = True

    def __init__(self, path: Path, document: Record, images: Path | None, policies: Policies) -> None:
        self._document, self._policies = document, policies
        self._path, self._root = path, _png_folder(path)
        if not has_folder(path.parent, self._root.name):
            self._root = path.parent
        self._photographs = Photographs(images)
        self._annotations: list[Record] = document["annotations"]
        self._places: list[_Place] = []
        self._replaced: dict[int, Rle] = {}
        self._cached: tuple[str, Values] | None = None
        self.instances: Sequence[Instance] = list(self._listed(path))

    def _listed(self, path: Path) -> Sequence[Instance]:
        categories = _by_id(self._document.get("categories"))
        some = any(annotation["segments_info"] for annotation in self._annotations)
        if some and not any("isthing" in category for category in categories.values()):
            raise JobError(
                f"{path} has no `categories` with `isthing`; copy them from the ground truth's file, so that things can "
                "be told from stuff",
                field="categories",
            )
        names = {
            key: printable(str(image.get("file_name", "")))
            for key, image in _by_id(self._document.get("images")).items()
        }
        found = []
        for annotation in self._annotations:
            image_id = annotation.get("image_id")
            known = names.get(image_id, "") if isinstance(image_id, (int, str)) else ""
            image = known or printable(str(PurePosixPath(annotation["file_name"]).with_suffix("")))
            for segment in annotation["segments_info"]:
                category = categories.get(segment.get("category_id"), {})
                fields = known_fields({**segment, "image_id": image_id}, ("id", "category_id", "iscrowd", "image_id"))
                self._places.append(_Place(annotation, segment))
                found.append(
                    Instance(
                        image=image,
                        label=printable(str(category.get("name", ""))),
                        score=score_of(segment.get("score")),
                        refinable=bool(category.get("isthing")) and not segment.get("iscrowd"),
                        fields=fields,
                    )
                )
        return found

    @classmethod
    def open(cls, path: Path, images: Path | None, policies: Policies) -> PanopticMasks:
        """See `MaskFile.open`."""
        document = read_json(path, "results")
        annotations = document.get("annotations") if isinstance(document, dict) else None
        if not isinstance(annotations, list) or not all(_is_annotation(annotation) for annotation in annotations):
            raise JobError(
                f"{path} is no COCO panoptic file: it needs `annotations`, each with file_name and segments_info, those "
                "with category_id, and id from 1 to 16777215, each once",
                field="results",
            )
        return cls(path, document, images, policies)

    @classmethod
    def matches(cls, peek: Peek) -> bool:
        """A JSON object whose annotations have `segments_info`."""
        annotations = peek.document.get("annotations") if isinstance(peek.document, dict) else None
        first = annotations[0] if isinstance(annotations, list) and annotations else None
        return isinstance(first, dict) and isinstance(first.get("segments_info"), list)

    @classmethod
    def write(cls, path: Path, pictures: Sequence[Picture], policies: Policies) -> None:
        """A new file and its folder of PNGs. All instances are things; what none of them has is void."""
        categories = category_numbers(pictures)
        images: list[Record] = []
        annotations: list[Record] = []
        with new_folder(_png_folder(path)) as folder:
            for image_id, (picture, name) in enumerate(zip(pictures, png_names(pictures), strict=True), 1):
                values = painted(picture, policies)
                write_file(folder, name, _png(values))
                size = {"height": picture.height, "width": picture.width}
                images.append({"id": image_id, "file_name": picture.name, **size})
                segments: list[Record] = []
                for number, (instance, _) in enumerate(picture.instances, 1):
                    area, bbox = _extent(values, number)
                    segment = {"id": number, "category_id": categories[label_of(instance)], "area": area, "bbox": bbox}
                    crowd = int(bool(instance.fields.get("iscrowd")))
                    scored = {} if instance.score is None else {"score": instance.score}
                    segments.append({**segment, "iscrowd": crowd, **scored})
                annotations.append({"image_id": image_id, "file_name": name, "segments_info": segments})
            listed = [
                {"id": number, "name": label, "supercategory": label, "isthing": 1}
                for label, number in categories.items()
            ]
        write_json(path, {"images": images, "annotations": annotations, "categories": listed})

    @staticmethod
    def folder_beside(path: Path) -> Path:
        """The folder of the PNGs of a file that is written."""
        return _png_folder(path)

    def files(self) -> Iterable[Path]:
        """See `MaskFile.files`."""
        yield self._path
        names = sorted({str(annotation["file_name"]) for annotation in self._annotations})
        yield from (self._root / name for name in names if has_file(self._root, name))

    def mask(self, number: int, height: int, width: int) -> Rle:
        """See `MaskFile.mask`."""
        if number in self._replaced:
            return self._replaced[number]
        place = self._places[number]
        mask = Rle.from_dense(np.asarray(self._values(place.annotation) == place.segment["id"]))
        if not mask.area:
            raise MaskError("the PNG has no pixel of this segment's id", field="segments_info.id")
        return mask

    def photograph(self, number: int) -> Path:
        """See `MaskFile.photograph`. The name in `images`, else the id of the image, with what Cityscapes puts after it."""
        name = self.instances[number].image
        folder = self._photographs.folder
        if folder is None or has_file(folder, name):
            return self._photographs.named(name)
        stem = str(PurePosixPath(name).with_suffix("")) if name.lower().endswith(SUFFIXES) else name
        image_id = str(self._places[number].annotation.get("image_id"))
        known = (n for n in (stem, image_id, f"{image_id}_leftImg8bit") if self._photographs.knows(n))
        return self._photographs.of(next(known, stem))

    def replace(self, number: int, mask: Rle) -> None:
        """See `MaskFile.replace`."""
        check_size(mask, self._values(self._places[number].annotation).shape, self._policies)
        self._replaced[number] = mask

    def save(self, path: Path) -> None:
        """See `MaskFile.save`. PNGs go to a folder of the file's name; those in which nothing changed are copied."""
        numbers: dict[int, list[int]] = {}
        for number, place in enumerate(self._places):
            numbers.setdefault(id(place.annotation), []).append(number)
        with new_folder(_png_folder(path)) as folder:
            for annotation in self._annotations:
                self._save(folder, annotation, numbers.get(id(annotation), []))
        write_json(path, self._document)

    def _save(self, folder: Path, annotation: Record, members: list[int]) -> None:
        segments = [self._places[n].segment for n in members]
        changed = {self._places[n].segment["id"]: self._replaced[n] for n in members if n in self._replaced}
        name = str(annotation["file_name"])
        if not changed:
            try:
                inside(self._root, name, field="file_name")
            except MaskmendError:
                # Its instances are named as errors already.
                return
            copy_files(self._root, folder, [name])
            return
        values = self._values(annotation)
        size = next(iter(changed.values()))
        before = resized(values, size.height, size.width)
        things = [s["id"] for n, s in zip(members, segments, strict=True) if self.instances[n].refinable]
        crowds = [s["id"] for s in segments if s.get("iscrowd")]
        made = repaint(before, things, changed, fixed=crowds, policy=self._policies.overlaps, where=name)
        if made.values.shape == values.shape and np.array_equal(made.values, values):
            copy_files(self._root, folder, [name])
            return
        write_file(folder, name, _png(made.values))
        touched = set(np.unique(made.values[made.values != before]).tolist())
        touched |= set(np.unique(before[made.values != before]).tolist())
        for segment in segments:
            if segment["id"] in touched or before.shape != values.shape:
                area, bbox = _extent(made.values, segment["id"])
                segment.update({key: value for key, value in (("area", area), ("bbox", bbox)) if key in segment})

    def _values(self, annotation: Record) -> Values:
        """The last picture is kept: instances are asked for image by image."""
        name = str(annotation["file_name"])
        cached = self._cached
        if cached is None or cached[0] != name:
            data = read_image_file(inside(self._root, name, field="file_name"), "png")
            cached = name, _ids(data)
            self._cached = cached
        return cached[1]


def _ids(data: bytes) -> Values:
    header = read_header(data, "png")
    if header.format != "PNG":
        raise MaskError("png is no PNG; other formats change the colours that are ids", field="png")
    check_image_size(header.height, header.width, MAX_PIXELS, "png")
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise MaskError("png cannot be decoded", field="png") from error
    if bgr is None or bgr.shape[:2] != (header.height, header.width):
        raise MaskError("png cannot be decoded; it may be truncated", field="png")
    wide = bgr.astype(np.int32)
    return np.asarray(wide[..., 2] + 256 * wide[..., 1] + 65536 * wide[..., 0], np.int32)


def _png(values: Values) -> bytes:
    bgr = np.stack([values >> 16, (values >> 8) & 255, values & 255], axis=2).astype(np.uint8)
    return bytes(cv2.imencode(".png", bgr)[1])


def _extent(values: Values, number: int) -> tuple[int, list[int]]:
    mask = Rle.from_dense(np.asarray(values == number))
    return mask.area, list(mask.bbox)


def _png_folder(path: Path) -> Path:
    return path.with_suffix("") if path.suffix else path.with_name(path.name + "_png")


def _is_annotation(annotation: Any) -> bool:
    if not isinstance(annotation, dict) or not isinstance(name := annotation.get("file_name"), str):
        return False
    if not PurePosixPath(name).name:
        return False
    segments = annotation.get("segments_info")
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        return False
    if not all(isinstance(segment.get("category_id"), (int, str)) for segment in segments):
        return False
    ids = [segment.get("id") for segment in segments]
    return all(is_whole(key) and 0 < key <= MOST_ID for key in ids) and len(set(ids)) == len(ids)


def _by_id(records: Any) -> dict[Any, Record]:
    if not isinstance(records, list):
        return {}
    return {r["id"]: r for r in records if isinstance(r, dict) and isinstance(r.get("id"), (int, str))}
