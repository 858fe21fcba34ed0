"""Labels of a conversion, numbered."""

from __future__ import annotations

from collections.abc import Sequence

from maskmend.clients.formats.base import Instance, Picture


def label_of(instance: Instance) -> str:
    """The label of an instance; where it has none, the number of its category; else `object`."""
    return instance.label or str(instance.fields.get("category_id", "object"))


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
