"""A conversion: the masks of one format, whole, into another."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from maskmend.clients.formats import FORMATS, mask_format, open_masks
from maskmend.clients.formats.base import Instance, MaskFile, Peek, Picture, Policies, fitted
from maskmend.clients.formats.categories import check_text
from maskmend.clients.formats.paint import separated
from maskmend.clients.formats.panoptic import PanopticMasks
from maskmend.clients.inside import printable
from maskmend.clients.json_files import write_lines
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskError, MaskmendError, OptionError
from maskmend.patcher.image_size import image_size

Progress = Callable[[int, int], None]
"""Called with the numbers of finished and of all instances."""
_CROWDS = ("coco", "panoptic")
"""Formats that can say that something is a crowd."""
_LONGEST_LINE = 65_536
"""Bytes of a line in a file of errors."""
_WRITTEN = (".png", ".txt", ".yaml", ".json")
"""Suffixes of the files that conversions write."""


@dataclass
class ConversionSummary:
    """What became of the instances.

    Attributes:
        instances: in the source.
        written: of these, how many the target has.
        passed: boxes, points and stuff, and crowds where the target has none: not written.
        errors: one entry per instance that was left out: index, image, code, message.
    """

    instances: int = 0
    written: int = 0
    passed: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)


def run_conversion(
    source: Path,
    images: Path,
    target: Path,
    to: str,
    *,
    source_format: str = "auto",
    annotations: Path | None = None,
    policies: Policies | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ConversionSummary:
    """Convert a file or folder of masks.

    Args:
        source: what to read.
        images: folder of the photographs; of each the size is read.
        target: file or folder to write; `TARGET.errors.jsonl` beside it when instances were left out.
        to: name of the target's format.
        source_format: name of the source's format, or `auto`.
        annotations: COCO file that names the photographs and categories of a COCO result list.
        policies: see there.
        overwrite: replace a target of the same format.
        progress: called after each image.

    Returns:
        What became of the instances.

    Raises:
        OptionError: a format that there is none of.
        JobError: the conversion cannot be done at all; nothing is written.
    """
    policies = policies or Policies()
    kind = mask_format(_known(to, "to"))
    if source_format != "auto":
        _known(source_format, "from")
    if not images.is_dir():
        raise JobError(f"--images {images} is not a folder", field="images")
    _check_target(source, images, target, kind, overwrite)
    errors = target.with_name(target.name + ".errors.jsonl")
    _check_errors(errors)
    opened = open_masks(source, images, format=source_format, annotations=annotations, policies=policies)
    summary = ConversionSummary(instances=len(opened.instances))
    pictures = _pictures(opened, images, kind, policies, summary, progress)
    _write(kind, target, pictures, policies)
    summary.errors.sort(key=lambda error: int(error["index"]))
    write_lines(errors, summary.errors)
    return summary


def _pictures(
    opened: MaskFile,
    images: Path,
    kind: type[MaskFile],
    policies: Policies,
    summary: ConversionSummary,
    progress: Progress | None,
) -> list[Picture]:
    pictures: list[Picture] = []
    done = 0
    for _, numbers in opened.by_image():
        picture, places = _picture(opened, numbers, images, kind, policies, summary)
        if picture is not None and kind.one_per_pixel:
            picture = separated(picture, policies)
        if picture is not None:
            pictures.append(_without_empty(opened, picture, places, summary))
            summary.written += len(pictures[-1].instances)
        done += len(numbers)
        if progress is not None:
            progress(done, summary.instances)
    return pictures


def _picture(
    opened: MaskFile,
    numbers: list[int],
    images: Path,
    kind: type[MaskFile],
    policies: Policies,
    summary: ConversionSummary,
) -> tuple[Picture | None, list[int]]:
    """An image with the instances whose masks can be read, and their numbers; None without its photograph."""
    crowds = kind.name in _CROWDS
    instance_of = opened.instances
    wanted = [n for n in numbers if instance_of[n].refinable or (crowds and instance_of[n].fields.get("iscrowd"))]
    summary.passed += len(numbers) - len(wanted)
    if not wanted:
        return None, []
    try:
        path = opened.photograph(wanted[0])
        height, width = image_size(path, exif_policy=policies.exif_policy)
    except MaskmendError as error:
        summary.errors.extend(_failure(opened, n, error) for n in wanted)
        return None, []
    instances: list[tuple[Instance, Rle]] = []
    places: list[int] = []
    for n in wanted:
        try:
            mask = fitted(opened.mask(n, height, width), height, width, policies, "mask")
            instances.append((opened.instances[n], mask))
            places.append(n)
        except MaskmendError as error:
            summary.errors.append(_failure(opened, n, error))
    image_id = opened.instances[wanted[0]].fields.get("image_id")
    return Picture(_relative(path, images.resolve()), height, width, instances, image_id), places


def _relative(path: Path, images: Path) -> str:
    """The name of a photograph in its folder, as the source has it: two links to one photograph are two names."""
    if ".." in path.parts or not path.is_relative_to(images):
        path = path.resolve()
    return path.relative_to(images).as_posix()


def _without_empty(opened: MaskFile, picture: Picture, places: list[int], summary: ConversionSummary) -> Picture:
    kept = []
    for number, (instance, mask) in zip(places, picture.instances, strict=True):
        if mask.area:
            kept.append((instance, mask))
        else:
            error = MaskError("nothing is left of the mask: it is empty, or others cover it", field="mask")
            summary.errors.append(_failure(opened, number, error))
    return replace(picture, instances=kept)


def _failure(opened: MaskFile, number: int, error: MaskmendError) -> dict[str, Any]:
    image = printable(opened.instances[number].image)
    return {"index": number, "image": image, "code": error.code, "message": printable(str(error)[:1000])}


def _check_errors(path: Path) -> None:
    """See that the file of errors, if there is one, is of this command: it is replaced, or deleted."""
    if not path.is_symlink() and not path.exists():
        return
    try:
        with path.open("rb") as file:
            first = orjson.loads(file.readline(_LONGEST_LINE))
    except (OSError, ValueError):
        first = None
    if path.is_symlink() or not isinstance(first, dict) or list(first) != ["index", "image", "code", "message"]:
        raise JobError(f"{path} is in the way, and not of this command; move it away", field="output")


def _known(name: str, option: str) -> str:
    if name not in FORMATS:
        raise OptionError(f"--{option} is {name[:40]!r}; use one of {', '.join(FORMATS)}", field=option)
    return name


def _check_target(source: Path, images: Path, target: Path, kind: type[MaskFile], overwrite: bool) -> None:
    if not target.parent.is_dir():
        raise JobError(f"--output {target}: the folder {target.parent} does not exist; create it first", field="output")
    there = [part for part in (target, *_beside(target, kind)) if part.exists() and not _is_empty_folder(part)]
    for part in there:
        if not overwrite:
            raise JobError(f"--output {part} exists; choose another name, or --overwrite", field="output")
        if part.is_symlink():
            raise JobError(f"--output {part} is a link; name what it leads to, or delete it", field="output")
        if any(path.resolve().is_relative_to(part.resolve()) for path in (source, images)):
            raise JobError(f"--output {part} holds the source or the photographs; choose another name", field="output")
        # What is deleted must at least be of the kind that was meant.
        if part == target and (target.is_dir() != kind.writes_folder or not kind.matches(Peek(target))):
            raise JobError(f"--output {target} is no {kind.name}; only such a one is overwritten", field="output")
        other = next((p for p in part.rglob("*") if p.is_file() and p.suffix not in _WRITTEN), None)
        if other is not None or target not in there:
            raise JobError(
                f"--output {part} holds other files than {kind.name} has; delete it yourself", field="output"
            )


def _beside(target: Path, kind: type[MaskFile]) -> list[Path]:
    """The folder that goes with a file, if the format has one."""
    return [kind.folder_beside(target)] if issubclass(kind, PanopticMasks) else []


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _write(kind: type[MaskFile], target: Path, pictures: list[Picture], policies: Policies) -> None:
    """Write beside the target and move it there: should the writing fail, what was there still is."""
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name[:60]}.", dir=target.parent))
    except OSError as error:
        raise JobError(f"{target.parent} cannot be written: {error.strerror or error}", field="output") from error
    try:
        check_text(pictures)
        kind.write(staging / target.name, pictures, policies)
        for fresh in sorted(staging.iterdir()):
            place = target.parent / fresh.name
            if place.is_dir():
                shutil.rmtree(place)
            fresh.replace(place)
    except OSError as error:
        raise JobError(f"{target} cannot be written: {error.strerror or error}", field="output") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
