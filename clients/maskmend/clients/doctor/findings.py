"""What the doctor found, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from maskmend.clients.doctor.extras import Extra
from maskmend.clients.doctor.machine import Machine

State = Literal["works", "broken", "missing"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried.

    Attributes:
        area: `geometry`, `weights`, `runtime`, `server` or `triton`.
        name: what it is, within its area.
        state: `missing` is not installed, which is no fault; `broken` is there and does not work.
        said: what was found, in a line.
        remedy: what to do about it; empty where there is nothing to do.
        facts: figures and names, JSON values.
    """

    area: str
    name: str
    state: State
    said: str
    remedy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the doctor found.

    Attributes:
        version: of maskmend.
        location: folder that it is imported from.
        machine: see `Machine`.
        extras: those for use, not for development; the plain install is the first, named `base`.
        checks: in the order they were made.
    """

    version: str
    location: str
    machine: Machine
    extras: Sequence[Extra]
    checks: Sequence[Check]

    @property
    def ok(self) -> bool:
        """Whether nothing that is installed, or that was asked for, is broken."""
        states = [*(extra.state for extra in self.extras), *(check.state for check in self.checks)]
        return "broken" not in states

    @property
    def remedies(self) -> list[str]:
        """What to do, what is broken before what is missing, each once."""
        found: list[Extra | Check] = [*self.extras, *self.checks]
        wanted = [each.remedy for state in ("broken", "missing") for each in found if each.state == state]
        return list(dict.fromkeys(remedy for remedy in (*wanted, *self.machine.remedies) if remedy))

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "version": self.version,
            "location": self.location,
            "ok": self.ok,
            "machine": asdict(self.machine),
            "extras": [asdict(extra) for extra in self.extras],
            "checks": [asdict(check) for check in self.checks],
            "what_to_do": self.remedies,
        }
