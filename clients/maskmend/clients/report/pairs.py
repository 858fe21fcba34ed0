"""Two mask files of the same instances: which record of one belongs to which of the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskmend.clients.coco import read_coco
from maskmend.clients.formats import open_masks
from maskmend.clients.formats.base import MaskFile, Policies
from maskmend.clients.report.items import Item
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskError

NAMES = ("id", "annotation_id")


@dataclass(frozen=True)
class Source:
    """An opened mask file.

    Attributes:
        name: of the file, without its folder.
        masks: the file.
    """

    name: str
    masks: MaskFile


def open_source(
    path: Path, images: Path | None, *, format: str = "auto", annotations: Path | None = None, exif: str = "apply"
) -> Source:
    """Open a mask file.

    Args:
        path: of it.
        images: folder of the photographs.
        format: see `open_masks`.
        annotations: COCO file whose `images` name the photographs of a COCO result list.
        exif: whether photographs are turned as their EXIF orientation says: `apply` or `ignore`.

    Raises:
        JobError: it cannot be used.
        OptionError: no such format, or `annotations` with another one than COCO.
    """
    policies = Policies(exif_policy="ignore" if exif == "ignore" else "apply")
    masks = open_masks(path, images, format=format, annotations=annotations, policies=policies)
    return Source(path.name, masks)


@dataclass(frozen=True)
class Pairs:
    """Records of two files that belong together.

    Attributes:
        before: the first file.
        after: the second file.
        partners: for each record of the first, the number of its partner.
        how: by what they were matched, in words.
    """

    before: Source
    after: Source
    partners: Sequence[int]
    how: str

    def groups(self) -> Iterator[list[Item]]:
        """Instances of each image, images in order of first appearance; crowds and the like left out."""
        for _, numbers in self.before.masks.by_image():
            group = [self._item(n) for n in numbers if self.before.masks.instances[n].refinable]
            if group:
                yield group

    @property
    def left_out(self) -> int:
        """Crowds, stuff, boxes and points: records without a mask of one object."""
        return sum(not instance.refinable for instance in self.before.masks.instances)

    def _item(self, number: int) -> Item:
        first, second, partner = self.before.masks, self.after.masks, self.partners[number]

        def masks(height: int, width: int) -> tuple[Rle, Rle]:
            pair = first.mask(number, height, width), second.mask(partner, height, width)
            for mask, name in zip(pair, (self.before.name, self.after.name), strict=True):
                if (mask.height, mask.width) != (height, width):
                    raise MaskError(
                        f"the mask in {name[:60]} is {mask.width}x{mask.height} px but the photograph is {width}x{height} "
                        "px (width x height); masks must be of the photograph's size",
                        field="segmentation",
                    )
            return pair

        return Item(number, first.instances[number], lambda: first.photograph(number), masks)


def match(before: Source, after: Source) -> Pairs:
    """Find out which records belong together.

    By `id` where every record of both files has one and no two of a file share it; else by `annotation_id` likewise; else
    by their order among the records of the same image and category.

    Raises:
        JobError: a record has no partner, or the partner is of another image.
    """
    for name in NAMES:
        keys = [_unique(source, name) for source in (before, after)]
        if keys[0] is not None and keys[1] is not None:
            return Pairs(before, after, _partners(before, after, keys[0], keys[1], name), f"matched by {name}")
    keys_before, keys_after = (_places(source, _by_ids(before, after)) for source in (before, after))
    partners = _partners(before, after, keys_before, keys_after, "place within its image and category")
    return Pairs(before, after, partners, "matched by their order within image and category")


def _partners(before: Source, after: Source, first: list[Any], second: list[Any], what: str) -> list[int]:
    places = {key: number for number, key in enumerate(second)}
    alone = [number for number, key in enumerate(first) if key not in places]
    others = len(second) - (len(first) - len(alone))
    if alone or others:
        example = f" (the first is record {alone[0]} of {before.name[:60]})" if alone else ""
        raise JobError(
            f"{before.name[:60]} and {after.name[:60]} do not fit: told apart by {what}, {len(alone)} of {len(first)} "
            f"records of the first and {others} of {len(second)} of the second have no partner{example}; give two "
            "files of the same instances",
            field="after",
        )
    partners = [places[key] for key in first]
    by_ids = _by_ids(before, after)
    for number, partner in enumerate(partners):
        if _group(before, number, by_ids)[0] != _group(after, partner, by_ids)[0]:
            raise JobError(
                f"{before.name[:60]} and {after.name[:60]} do not fit: told apart by {what}, record {number} of the first "
                f"and its partner, record {partner} of the second, are of two images; give two files of the same instances",
                field="after",
            )
    return partners


def category_names(*paths: Path | None) -> dict[Any, str]:
    """Names of categories by id that COCO files give, the first file's first; None counts for nothing.

    Raises:
        JobError: a file cannot be read, or is none of COCO's.
    """
    names: dict[Any, str] = {}
    for path in paths:
        if path is not None:
            names = {**read_coco(path).labels, **names}
    return names


def _unique(source: Source, name: str) -> list[Any] | None:
    keys = [instance.fields.get(name) for instance in source.masks.instances]
    if not all(isinstance(key, (int, str)) and not isinstance(key, bool) for key in keys):
        return None
    return keys if len(set(keys)) == len(keys) else None


def _by_ids(before: Source, after: Source) -> bool:
    """Whether both files have COCO's ids of images and categories, so that these can be compared."""
    return all(
        isinstance(instance.fields.get(name), (int, str))
        for source in (before, after)
        for instance in source.masks.instances
        for name in ("image_id", "category_id")
    )


def _group(source: Source, number: int, by_ids: bool) -> tuple[Any, Any]:
    instance = source.masks.instances[number]
    if by_ids:
        return instance.fields["image_id"], instance.fields["category_id"]
    return instance.image, instance.label


def _places(source: Source, by_ids: bool) -> list[Any]:
    """Image, category, and how many records of these came before."""
    seen: dict[Any, int] = {}
    places = []
    for number in range(len(source.masks.instances)):
        group = _group(source, number, by_ids)
        places.append((*group, seen.get(group, 0)))
        seen[group] = seen.get(group, 0) + 1
    return places
