"""Ids of a COCO file that is written: those of the source where they tell things apart, else numbers from 1."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from maskmend.clients.formats.base import Instance, Picture
from maskmend.clients.formats.categories import category_numbers, label_of


def image_ids(pictures: Sequence[Picture]) -> list[Any]:
    """An id for each image."""
    return _kept([picture.image_id for picture in pictures])


def annotation_ids(pictures: Sequence[Picture]) -> list[Any]:
    """An id for each instance, image by image."""
    return _kept([instance.fields.get("id") for picture in pictures for instance, _ in picture.instances])


class CategoryIds:
    """An id for each category.

    The source's are kept where every instance has one and each id has one label. Two categories of the same name stay two.

    Args:
        pictures: with all instances.
    """

    def __init__(self, pictures: Sequence[Picture]) -> None:
        instances = [instance for picture in pictures for instance, _ in picture.instances]
        known: dict[Any, str] = {}
        self._by_id = all(
            _is_id(number := instance.fields.get("category_id"))
            and known.setdefault(number, label_of(instance)) == label_of(instance)
            for instance in instances
        )
        if self._by_id:
            self.names: dict[Any, str] = dict(sorted(known.items(), key=lambda entry: _order(entry[0])))
        else:
            self._numbers = category_numbers(pictures)
            self.names = {number: label for label, number in self._numbers.items()}

    def of(self, instance: Instance) -> Any:
        """The id of an instance's category."""
        return instance.fields["category_id"] if self._by_id else self._numbers[label_of(instance)]


def _kept(ids: Sequence[Hashable]) -> list[Any]:
    if all(map(_is_id, ids)) and len(set(ids)) == len(ids):
        return list(ids)
    return list(range(1, len(ids) + 1))


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _order(number: int | str) -> tuple[bool, int, str]:
    return isinstance(number, str), number if isinstance(number, int) else 0, str(number)
