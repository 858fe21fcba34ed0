"""Label Studio: exported tasks (JSON) with brush and polygon regions, in annotations and predictions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from maskmend.clients.coco import SUFFIXES
from maskmend.clients.formats.base import Instance, MaskFile, Peek, Picture, Policies, known_fields, score_of
from maskmend.clients.formats.categories import label_of as written_label
from maskmend.clients.formats.json_text import Layout, read_json_text
from maskmend.clients.formats.label_studio_regions import (
    Region,
    is_refinable,
    is_shape,
    label_of,
    labels_by_id,
    put_mask,
    region_mask,
)
from maskmend.clients.formats.locate import find_photograph, reference_names
from maskmend.clients.inside import printable
from maskmend.clients.json_files import write_whole
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError

_ENTRIES = ("annotations", "predictions")


class LabelStudioMasks(MaskFile):
    """A Label Studio export. Brush regions stay brush regions, polygons stay polygons; all else passes through.

    Attributes:
        default_tolerance: of polygons in px, for people drag their vertices.
    """

    name = "label-studio"
    default_tolerance: ClassVar[float] = 0.5

    def __init__(self, path: Path, images: Path | None, policies: Policies) -> None:
        self._path, self._images, self._policies = path, images, policies
        self._document, self._layout = read_json_text(path, "results")
        if not _is_export(self._document):
            raise JobError(f"{path} is no Label Studio export: a list of tasks with `data` is needed", field="results")
        self._regions: list[Region] = []
        self._references: list[str] = []
        self.instances: list[Instance] = []
        for number, task in enumerate(self._document):
            self._take(number, task)
        self._changed = False

    @classmethod
    def open(cls, path: Path, images: Path | None, policies: Policies) -> LabelStudioMasks:
        """See `MaskFile.open`."""
        return cls(path, images, policies)

    @classmethod
    def matches(cls, peek: Peek) -> bool:
        """A JSON list of objects that have `data` and `annotations` or `predictions`."""
        return _is_export(peek.document)

    @classmethod
    def write(cls, path: Path, pictures: Sequence[Picture], policies: Policies) -> None:
        """Tasks to import, one for each image, with a prediction of brush regions; polygons where tolerance is above 0.

        The control tag is named `label`, the object tag `image`, as the templates of Label Studio have them.
        """
        kind = "polygonlabels" if policies.tolerance > 0 else "brushlabels"
        tasks: list[dict[str, Any]] = []
        for picture in pictures:
            result: list[Region] = []
            for number, (instance, mask) in enumerate(picture.instances):
                region: Region = {
                    "id": f"{len(tasks)}-{number}",
                    "type": kind,
                    "from_name": "label",
                    "to_name": "image",
                    "image_rotation": 0,
                    "value": {kind: [written_label(instance)]},
                    **({} if instance.score is None else {"score": instance.score}),
                }
                put_mask(region, mask, policies.tolerance)
                result.append(region)
            tasks.append({"data": {"image": picture.name}, "predictions": [{"result": result}]})
        write_whole(path, Layout(ascii=False).encoded(tasks))

    def mask(self, number: int, height: int, width: int) -> Rle:
        """See `MaskFile.mask`. In the size that the file says the region was drawn at."""
        return region_mask(self._regions[number])

    def photograph(self, number: int) -> Path:
        """See `MaskFile.photograph`. The end of the task's URL or path is looked up, see `reference_names`."""
        return find_photograph(self._images, reference_names(self._references[number]), "data")

    def replace(self, number: int, mask: Rle) -> None:
        """See `MaskFile.replace`. A region that has this mask already stays as it came."""
        if region_mask(self._regions[number]) != mask:
            put_mask(self._regions[number], mask, self._policies.tolerance)
            self._changed = True

    def save(self, path: Path) -> None:
        """See `MaskFile.save`."""
        if self._changed:
            write_whole(path, self._layout.encoded(self._document))
            return
        try:
            shutil.copyfile(self._path, path)
        except OSError as error:
            raise JobError(f"{path} cannot be written: {error.strerror}", field="output") from error

    def _take(self, number: int, task: Mapping[str, Any]) -> None:
        reference = image_reference(task)
        known = known_fields({"image_id": task.get("id")}, ("image_id",))
        for entry in entries(task):
            labels = labels_by_id(entry["result"])
            for region in entry["result"]:
                if not is_shape(region):
                    continue
                self._regions.append(region)
                self._references.append(reference)
                self.instances.append(
                    Instance(
                        image=printable(reference) or f"task {number}",
                        label=label_of(region, labels),
                        score=score_of(region.get("score", entry.get("score"))),
                        refinable=is_refinable(region),
                        fields=known,
                    )
                )


def image_reference(task: Mapping[str, Any]) -> str:
    """The URL or path of a task's photograph: the text in `data` that looks like one, `image` before others."""
    data = task.get("data")
    texts = {key: text for key, text in data.items() if isinstance(text, str)} if isinstance(data, Mapping) else {}
    for key in sorted(texts, key=lambda key: key != "image"):
        if _names_image(texts[key]):
            return texts[key]
    return texts.get("image", "")


def _names_image(text: str) -> bool:
    try:
        parts = urlsplit(text)
        asked = parse_qs(parts.query).get("d", [""])[0]
    except ValueError:
        return False
    return parts.path.lower().endswith(SUFFIXES) or asked.lower().endswith(SUFFIXES)


def _is_export(document: object) -> bool:
    return (
        isinstance(document, list)
        and bool(document)
        and all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in document)
        and any(isinstance(task.get(kind), list) for task in document[:1] for kind in _ENTRIES)
    )


def entries(task: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Annotations, then predictions, those that have a `result`."""
    for kind in _ENTRIES:
        listed = task.get(kind)
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, dict) and isinstance(entry.get("result"), list):
                yield entry
