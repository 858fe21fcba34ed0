"""The command line. `main` is what the `maskmend` script calls."""

from __future__ import annotations

import sys

from maskmend.patcher.errors import MaskmendError

UNUSABLE = 2
"""Exit code for input or options that cannot be used: nothing was written."""
KEPT = 3
"""Exit code when some records were kept unchanged because of an error."""


def main() -> None:
    """Run the command line; errors of maskmend become one line and exit code 2."""
    from maskmend.clients.cli.app import app

    try:
        app()
    except MaskmendError as error:
        print(f"maskmend: {error}", file=sys.stderr)
        sys.exit(UNUSABLE)
