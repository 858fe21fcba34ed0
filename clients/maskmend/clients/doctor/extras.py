"""What is installed of maskmend's extras. Reads package metadata and imports nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

DEVELOPERS = frozenset({"adapters-test", "bench", "dev", "docs"})
"""Extras that nobody needs to use maskmend."""
BASE = "base"
"""What is installed without any extra."""
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*(\[[^\]]*\])?\s*\(?(?P<wanted>[^;)]*)\)?\s*(;(?P<marker>.*))?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_BOUND = re.compile(r"(>=|<)([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Package:
    """One package that an extra needs.

    Attributes:
        name: of the package.
        wanted: versions that this release works with, such as `>=2025.0,<2027`.
        version: installed; None if it is not.
        fits: whether that is one of them.
    """

    name: str
    wanted: str
    version: str | None
    fits: bool


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra, or the plain install.

    Attributes:
        name: of the extra, or `base`.
        state: `works` where all is there, `missing` where something is not, `broken` where a version is outside its bounds,
            or something of the plain install is missing.
        packages: that it needs.
        remedy: what to install.
    """

    name: str
    state: Literal["works", "broken", "missing"]
    packages: tuple[Package, ...]
    remedy: str


def look(required: Iterable[str] | None = None) -> list[Extra]:
    """Hold what is installed against what maskmend says it needs.

    Args:
        required: requirements as in metadata; those of the installed maskmend if not given.
    """
    found: dict[str, list[Package]] = {BASE: []}
    for text in requires("maskmend") or [] if required is None else required:
        parts = _REQUIREMENT.fullmatch(text.strip())
        if parts is None:
            continue
        extra = _EXTRA.search(parts["marker"] or "")
        name = extra[1] if extra else BASE
        if name not in DEVELOPERS:
            found.setdefault(name, []).append(_package(parts["name"], parts["wanted"].strip()))
    return [_extra(name, packages) for name, packages in found.items()]


def fits(installed: str, wanted: str) -> bool:
    """Whether a version lies within bounds of `>=` and `<`, which are all that maskmend states.

    Numbers are compared; what follows them (`rc1`, `+cpu`) is passed over.
    """
    have = _numbers(installed)
    for kind, bound in _BOUND.findall(wanted):
        at_least = have >= _numbers(bound)
        if at_least != (kind == ">="):
            return False
    return True


def _numbers(text: str) -> list[int]:
    found = re.match(r"\d+(\.\d+)*", text)
    numbers = [int(part) for part in found[0].split(".")] if found else [0]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return numbers


def _package(name: str, wanted: str) -> Package:
    try:
        installed = version(name)
    except PackageNotFoundError:
        return Package(name, wanted, None, False)
    return Package(name, wanted, installed, fits(installed, wanted))


def _extra(name: str, packages: list[Package]) -> Extra:
    # A plain torch would bring gigabytes for GPUs along.
    install = "pip install -c constraints.txt " if name == "train" else "pip install "
    install += "maskmend" if name == BASE else f"'maskmend[{name}]'"
    absent = [package.name for package in packages if package.version is None]
    unfit = [f"{package.name} {package.version}" for package in packages if package.version and not package.fits]
    remedy = ""
    state: Literal["works", "broken", "missing"] = "works"
    if absent:
        state = "broken" if name == BASE else "missing"
        remedy = f"{install} (brings {', '.join(absent)})"
    if unfit:
        # Whoever has part of an extra for other reasons is not to be told that maskmend is broken.
        state = "missing" if absent and name != BASE else "broken"
        remedy = f"{install} (exchanges {', '.join(unfit)} for a version that works with this release)"
    return Extra(name, state, tuple(packages), remedy)
