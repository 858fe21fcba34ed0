"""The command line. `main` is what the `maskmend` script calls."""

from __future__ import annotations

import sys

from maskmend.clients.cli.conventions import UNUSABLE
from maskmend.patcher.errors import MaskmendError


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
