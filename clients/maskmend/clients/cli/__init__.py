"""The command line. `main` is what the `maskmend` script calls."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from maskmend.patcher.errors import MaskmendError, OptionError

UNUSABLE = 2
"""Exit code for input or options that cannot be used: nothing was written."""
KEPT = 3
"""Exit code when some records were kept unchanged because of an error."""
# A literal: importing the registry would bring the geometry along, and `--help` would be slow.
REFINER_HELP = "bpr (patches along the boundary); transfiner, refinemask or sharpmask (whole instances) \\[bpr]."


def main() -> None:
    """Run the command line; errors of maskmend become one line and exit code 2."""
    from maskmend.clients.cli.app import app

    try:
        app()
    except MaskmendError as error:
        print(f"maskmend: {error}", file=sys.stderr)
        sys.exit(UNUSABLE)
    except OSError as error:
        # A disk that is full, a file that vanished: what no message of ours foresaw.
        print(f"maskmend: {error.strerror or error}: {error.filename or 'input or output'}", file=sys.stderr)
        sys.exit(UNUSABLE)
    except MemoryError:
        print(
            "maskmend: there is not enough memory; give it more, or smaller photographs, and --resume", file=sys.stderr
        )
        sys.exit(UNUSABLE)


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
