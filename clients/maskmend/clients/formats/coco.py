"""COCO and LVIS: result lists and instances files, RLE or polygons, keypoints and foreign fields kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from maskmend.clients.coco import ImageFolder, Record, instances_nearby, read_coco, with_names, write_json
from maskmend.clients.formats.base import Instance, MaskFile, Peek, Picture, Policies, known_fields, score_of
from maskmend.clients.formats.coco_ids import CategoryIds, annotation_ids, image_ids
from maskmend.clients.inside import printable
from maskmend.clients.remote_folder import RemoteFolder
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.errors import JobError, MaskError

FIELDS = ("id", "annotation_id", "image_id", "category_id", "iscrowd")


class CocoMasks(MaskFile):
    """A COCO file. `segmentation` becomes compressed RLE; `bbox` and `area` are brought up to date where they are there."""

    name = "coco"

    def __init__(self, path: Path, images: Path | RemoteFolder | None, annotations: Path | None) -> None:
        self._path, self._annotations, self._folder = path, annotations, None
        self._coco = read_coco(path)
        if annotations is not None:
            self._coco = with_names(self._coco, annotations)
        if images is not None:
            nearby = instances_nearby(images, self._coco) if annotations is None else None
            named = self._coco if nearby is None else with_names(self._coco, nearby)
            self._folder = ImageFolder(images, named.images)
            self._annotations = annotations or nearby
        self.instances = [self._instance(record) for record in self._coco.records]

    @classmethod
    def open(
        cls, path: Path, images: Path | RemoteFolder | None, policies: Policies, *, annotations: Path | None = None
    ) -> CocoMasks:
        """See `MaskFile.open`. `annotations`: COCO file that names the photographs and categories of a result list."""
        return cls(path, images, annotations)

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
        categories = CategoryIds(pictures)
        ids = iter(annotation_ids(pictures))
        images: list[Record] = []
        annotations: list[Record] = []
        for image_id, picture in zip(image_ids(pictures), pictures, strict=True):
            images.append({"id": image_id, "file_name": picture.name, "height": picture.height, "width": picture.width})
            for instance, mask in picture.instances:
                annotations.append(
                    {
                        "id": next(ids),
                        "image_id": image_id,
                        "category_id": categories.of(instance),
                        "segmentation": _segmentation(mask, policies),
                        "area": mask.area,
                        "bbox": [float(value) for value in mask.bbox],
                        "iscrowd": int(bool(instance.fields.get("iscrowd"))),
                        **({} if instance.score is None else {"score": instance.score}),
                    }
                )
        listed = [{"id": number, "name": name} for number, name in categories.names.items()]
        write_json(path, {"images": images, "annotations": annotations, "categories": listed})

    def files(self) -> Iterable[Path]:
        """See `MaskFile.files`. What names the photographs counts too."""
        yield self._path
        if self._annotations is not None:
            yield self._annotations

    def mask(self, number: int, height: int, width: int) -> Rle:
        """See `MaskFile.mask`. Polygons are drawn in the photograph's size."""
        segmentation = self._coco.records[number].get("segmentation")
        if segmentation is None:
            raise MaskError("segmentation is missing; only records with a mask can be refined", field="segmentation")
        if isinstance(segmentation, dict):
            return as_rle(segmentation, field="segmentation")
        return as_rle(segmentation, height=height, width=width, field="segmentation")

    def photograph(self, number: int) -> Path:
        """See `MaskFile.photograph`.

        Raises:
            JobError: no folder of photographs was given.
        """
        if self._folder is None:
            raise JobError("photographs are needed here; say where they are with --images", field="images")
        return self._folder.find(self._coco.records[number])

    def stamp(self, number: int) -> list[int]:
        """See `MaskFile.stamp`."""
        known = None if self._folder is None else self._folder.stamp(self._coco.records[number])
        return super().stamp(number) if known is None else known

    def expect(self, number: int, *, whole: bool = True) -> None:
        """See `MaskFile.expect`."""
        if self._folder is not None:
            self._folder.expect(self._coco.records[number], whole=whole)

    def replace(self, number: int, mask: Rle) -> None:
        """See `MaskFile.replace`."""
        record = self._coco.records[number]
        fresh = {"bbox": [float(value) for value in mask.bbox], "area": mask.area}
        record.update(
            {"segmentation": mask.to_coco(), **{name: value for name, value in fresh.items() if name in record}}
        )

    def save(self, path: Path) -> None:
        """See `MaskFile.save`."""
        write_json(path, self._coco.document)

    def by_image(self) -> Iterator[tuple[str, list[int]]]:
        """See `MaskFile.by_image`. It is the `image_id` that says which instances are of one image."""
        for _, numbers in self._coco.by_image():
            yield self.instances[numbers[0]].image, numbers

    def _instance(self, record: Record) -> Instance:
        category = record.get("category_id")
        return Instance(
            image=self._coco.file_name(record),
            label=printable(self._coco.labels.get(category, "")) if isinstance(category, (int, str)) else "",
            score=score_of(record.get("score")),
            refinable=not record.get("iscrowd"),
            fields=known_fields(record, FIELDS),
        )


def _segmentation(mask: Rle, policies: Policies) -> Any:
    if policies.tolerance and mask.area:
        from maskmend.patcher.simplify import simplified

        return simplified(mask, policies.tolerance)
    return mask.to_coco()
