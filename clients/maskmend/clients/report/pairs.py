"""Two mask files of the same instances: which record of one belongs to which of the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from maskmend.clients.coco import read_coco
from maskmend.clients.formats import open_masks
from maskmend.clients.formats.base import Instance, MaskFile, Policies
from maskmend.clients.formats.categories import label_of
from maskmend.clients.report.items import Item
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskError, MaskmendError

NAMES = ("id", "annotation_id")
_NO_LABEL = label_of(Instance(""))


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
    by their order among the records of the same image and category. An id that does not lead from every record to one of
    the same image is none that both files share: then the next way is tried.

    Images are told apart by `image_id` where both files have it, and by their photographs, else by their names without
    suffix, where that does not fit; categories by `category_id`, or by name. Where a file names no categories, the order
    within the image counts.

    Raises:
        JobError: no way fits; it says what is wrong with the first.
    """
    sources = before, after
    images: list[list[list[Any]]] = []
    if _have(sources, "image_id"):
        images.append([[instance.fields["image_id"] for instance in source.masks.instances] for source in sources])
    images.append([_photographs(source) for source in sources])
    failures = []
    for name in NAMES:
        keys = [_unique(source, name) for source in sources]
        if keys[0] is None or keys[1] is None:
            continue
        for groups in images:
            try:
                return Pairs(before, after, _partners(sources, keys, groups, name), f"matched by {name}")
            except JobError as error:
                failures.append(error)
    for groups in images:
        kinds, what = _kinds(sources, by_ids=groups is images[0] and len(images) > 1)
        keys = [_places(list(zip(image, kind, strict=True))) for image, kind in zip(groups, kinds, strict=True)]
        try:
            return Pairs(
                before,
                after,
                _partners(sources, keys, groups, f"place within its {what}"),
                f"matched by their order within {what}",
            )
        except JobError as error:
            failures.append(error)
    raise failures[0]


def _partners(
    sources: tuple[Source, Source], keys: Sequence[list[Any] | None], images: list[list[Any]], what: str
) -> list[int]:
    before, after = (source.name[:60] for source in sources)
    first, second = (key or [] for key in keys)
    places = {key: number for number, key in enumerate(second)}
    alone = [number for number, key in enumerate(first) if key not in places]
    others = len(second) - (len(first) - len(alone))
    if alone or others:
        example = f" (the first is record {alone[0]} of {before})" if alone else ""
        raise JobError(
            f"{before} and {after} do not fit: told apart by {what}, {len(alone)} of {len(first)} "
            f"records of the first and {others} of {len(second)} of the second have no partner{example}; give two "
            "files of the same instances",
            field="after",
        )
    partners = [places[key] for key in first]
    for number, partner in enumerate(partners):
        if images[0][number] != images[1][partner]:
            raise JobError(
                f"{before} and {after} do not fit: told apart by {what}, record {number} of the first "
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


def _have(sources: Sequence[Source], name: str) -> bool:
    """Whether all records of both files have a field that can be compared."""
    return all(
        isinstance(instance.fields.get(name), (int, str)) for source in sources for instance in source.masks.instances
    )


def _photographs(source: Source) -> list[Any]:
    """The photograph of each record; its name without suffix where there is no such file."""
    found: dict[str, str] = {}
    for number, instance in enumerate(source.masks.instances):
        if instance.image not in found:
            try:
                found[instance.image] = str(source.masks.photograph(number))
            except MaskmendError:
                found[instance.image] = _without_suffix(instance.image)
    return [found[instance.image] for instance in source.masks.instances]


def _without_suffix(name: str) -> str:
    pure = PurePosixPath(name)
    return str(pure.with_suffix("")) if pure.name else name


def _kinds(sources: tuple[Source, Source], *, by_ids: bool) -> tuple[list[list[Any]], str]:
    """The category of each record, and what the order is told within."""
    if by_ids and _have(sources, "category_id"):
        numbers = [[instance.fields["category_id"] for instance in source.masks.instances] for source in sources]
        return numbers, "image and category"
    labels = [[label_of(instance) for instance in source.masks.instances] for source in sources]
    if any(set(of_one) == {_NO_LABEL} for of_one in labels):
        return [[""] * len(of_one) for of_one in labels], "image"
    return labels, "image and category"


def _places(groups: Sequence[Any]) -> list[Any]:
    """Of each record its group, and how many records of it came before."""
    seen: dict[Any, int] = {}
    places = []
    for group in groups:
        places.append((group, seen.get(group, 0)))
        seen[group] = seen.get(group, 0) + 1
    return places
