"""COCO and LVIS: result lists and instances files, RLE or polygons, keypoints and foreign fields kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maskmend.clients.coco import CocoFile, Record, photographs, read_coco, write_json
from maskmend.clients.formats.base import Instance, MaskFile, Peek, Picture, Policies
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.errors import JobError, MaskError

FIELDS = ("id", "annotation_id", "image_id", "category_id", "iscrowd")


class CocoMasks(MaskFile):
    """A COCO file. `segmentation` becomes compressed RLE; `bbox` and `area` are brought up to date where they are there."""

    name = "coco"

    def __init__(self, coco: CocoFile, images: Path | None, annotations: Path | None, policies: Policies) -> None:
        self._coco, self._policies = coco, policies
        self._folder = photographs(images, coco, annotations) if images is not None else None
        self.instances = [self._instance(record) for record in coco.records]

    @classmethod
    def open(cls, path: Path, images: Path | None, policies: Policies, *, annotations: Path | None = None) -> CocoMasks:
        """See `MaskFile.open`. `annotations`: COCO file whose `images` name the photographs of a result list."""
        return cls(read_coco(path), images, annotations, policies)

    @classmethod
    def matches(cls, peek: Peek) -> bool:
        """A JSON list of objects, or an object with `annotations`."""
        document = peek.document
        if isinstance(document, dict):
            return isinstance(document.get("annotations"), list)
        return isinstance(document, list) and all(isinstance(record, dict) for record in document[:1])

    @classmethod
    def write(cls, path: Path, pictures: Sequence[Picture], policies: Policies) -> None:
        """A new instances file: RLE, or polygons where `policies.tolerance` is above 0."""
        names = sorted({instance.label for picture in pictures for instance, _ in picture.instances})
        categories = {name: number for number, name in enumerate(names, 1)}
        images: list[Record] = []
        annotations: list[Record] = []
        for image_id, picture in enumerate(pictures, 1):
            images.append({"id": image_id, "file_name": picture.name, "height": picture.height, "width": picture.width})
            for instance, mask in picture.instances:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": categories[instance.label],
                        "segmentation": _segmentation(mask, policies),
                        "area": mask.area,
                        "bbox": [float(value) for value in mask.bbox],
                        "iscrowd": int(bool(instance.fields.get("iscrowd"))),
                        **({} if instance.score is None else {"score": instance.score}),
                    }
                )
        listed = [{"id": number, "name": name or "object"} for name, number in categories.items()]
        write_json(path, {"images": images, "annotations": annotations, "categories": listed})

    def mask(self, number: int, height: int, width: int) -> Rle:
        """See `MaskFile.mask`. Polygons are drawn in the photograph's size."""
        segmentation = self._coco.records[number].get("segmentation")
        if segmentation is None:
            raise MaskError("segmentation is missing; only records with a mask can be refined", field="segmentation")
        if isinstance(segmentation, dict):
            return as_rle(segmentation, field="segmentation")
        return as_rle(segmentation, height=height, width=width, field="segmentation")

    def photograph(self, number: int) -> Path:
        """See `MaskFile.photograph`."""
        if self._folder is None:
            raise JobError("photographs are needed here; say where they are with --images", field="images")
        return self._folder.find(self._coco.records[number])

    def replace(self, number: int, mask: Rle) -> None:
        """See `MaskFile.replace`."""
        record = self._coco.records[number]
        record["segmentation"] = mask.to_coco()
        if "bbox" in record:
            record["bbox"] = [float(value) for value in mask.bbox]
        if "area" in record:
            record["area"] = mask.area

    def save(self, path: Path) -> None:
        """See `MaskFile.save`."""
        write_json(path, self._coco.document)

    def by_image(self) -> Iterator[tuple[str, list[int]]]:
        """See `MaskFile.by_image`. It is the `image_id` that says which instances are of one image."""
        for _, numbers in self._coco.by_image():
            yield self.instances[numbers[0]].image, numbers

    def _instance(self, record: Record) -> Instance:
        score = record.get("score")
        return Instance(
            image=self._coco.file_name(record),
            label=self._coco.labels.get(record.get("category_id"), ""),
            score=float(score) if isinstance(score, (int, float)) else None,
            refinable=not record.get("iscrowd"),
            fields={name: record[name] for name in FIELDS if name in record},
        )


def _segmentation(mask: Rle, policies: Policies) -> Any:
    if policies.tolerance and mask.area:
        from maskmend.patcher.simplify import simplified

        return simplified(mask, policies.tolerance)
    return mask.to_coco()
