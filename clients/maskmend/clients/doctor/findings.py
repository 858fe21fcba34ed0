"""What the doctor found, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from maskmend.clients.doctor.extras import Extra
from maskmend.clients.doctor.machine import Machine

ANY = "any"
"""Name of the check that at least one runtime is installed."""
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
    def what_to_do(self) -> list[str]:
        """What to do about what is broken, and about the machine, each once."""
        found: list[Extra | Check] = [*self.extras, *self.checks]
        broken = [each.remedy for each in found if each.state == "broken"]
        return list(dict.fromkeys(remedy for remedy in (*broken, *self.machine.remedies) if remedy))

    @property
    def could_have(self) -> list[str]:
        """What to install for what is missing, should it be wanted."""
        missing = [extra.remedy for extra in self.extras if extra.state == "missing"]
        # A missing runtime is a missing extra; that there is none at all is worth a line of its own.
        missing += [check.remedy for check in self.checks if check.state == "missing" and check.name == ANY]
        return [remedy for remedy in missing if remedy]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "version": self.version,
            "location": self.location,
            "ok": self.ok,
            "machine": asdict(self.machine),
            "extras": [asdict(extra) for extra in self.extras],
            "checks": [asdict(check) for check in self.checks],
            "what_to_do": self.what_to_do,
            "could_have": self.could_have,
        }
