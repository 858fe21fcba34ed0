"""What the commands have in common: exit codes, and how a choice among names is offered and checked."""

from __future__ import annotations

from collections.abc import Sequence

from maskmend.patcher.errors import OptionError

UNUSABLE = 2
"""Exit code for input or options that cannot be used: nothing was written."""
KEPT = 3
"""Exit code when some records were kept unchanged because of an error."""
# A literal: importing the registry would bring the geometry along, and `--help` would be slow.
REFINER_HELP = "bpr (patches along the boundary); transfiner, refinemask or sharpmask (whole instances) \\[bpr]."


def one_of(option: str, value: str, known: Sequence[str]) -> str:
    """A value, if it is among those that an option takes.

    Raises:
        OptionError: it is not.
    """
    if value not in known:
        raise OptionError(
            f"--{option} is {value[:40]!r}; use one of {', '.join(known)}", field=option.replace("-", "_")
        )
    return value
