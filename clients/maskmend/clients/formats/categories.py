"""Labels of a conversion, numbered."""

from __future__ import annotations

import re
from collections.abc import Sequence

from maskmend.clients.formats.base import Instance, Picture
from maskmend.patcher.errors import JobError

_NO_TEXT = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs; the names of files that are no UTF-8 have them too."""
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_CANNOT_BE = "has a character in it that the format cannot hold; rename it"


def label_of(instance: Instance) -> str:
    """The label of an instance; where it has none, the number of its category; else `object`."""
    return instance.label or str(instance.fields.get("category_id", "object"))


def check_text(pictures: Sequence[Picture], *, controls: bool = False) -> None:
    """See that labels and names of photographs can be written.

    Args:
        pictures: with all instances.
        controls: whether control characters, which XML cannot hold, are refused too.

    Raises:
        JobError: one has a character that cannot be.
    """
    wrong = _NO_XML if controls else _NO_TEXT
    for picture in pictures:
        if wrong.search(picture.name):
            raise JobError(f"the name of photograph {ascii(picture.name)[:100]} {_CANNOT_BE}", field="file_name")
    for label in {label_of(instance) for picture in pictures for instance, _ in picture.instances}:
        if wrong.search(label):
            raise JobError(f"label {ascii(label)[:100]} {_CANNOT_BE}", field="label")


def category_numbers(pictures: Sequence[Picture], *, first: int = 1) -> dict[str, int]:
    """Labels in the order of the numbers that their categories have in the source, then by name; numbered anew.

    Args:
        pictures: with all instances.
        first: number of the first label.
    """
    lowest: dict[str, float] = {}
    for picture in pictures:
        for instance, _ in picture.instances:
            given = instance.fields.get("category_id")
            number = float(given) if isinstance(given, (int, float)) else float("inf")
            label = label_of(instance)
            lowest[label] = min(number, lowest.get(label, float("inf")))
    ordered = sorted(lowest, key=lambda label: (lowest[label], label))
    return {label: number for number, label in enumerate(ordered, first)}
