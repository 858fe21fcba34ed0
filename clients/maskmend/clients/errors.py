"""What goes wrong between a client and a server, and the server's own errors made again here."""

from __future__ import annotations

from functools import cache
from typing import Final

from maskmend.patcher.errors import MaskmendError
from maskmend.service.errors import DeadlineError, ServiceError

_WORTH_ANOTHER_TRY: Final = {
    "connection_failed",
    "unexpected_answer",
    "internal",
    "request_timeout",
    "overloaded",
    "rate_limited",
    "unavailable",
}


class ConnectionFailedError(MaskmendError):
    """No server at the address, or the connection broke before the answer was whole."""

    code = "connection_failed"


class UnexpectedAnswerError(MaskmendError):
    """What came back is not what a maskmend server says.

    Attributes:
        passing: whether another try may help: False where something else than maskmend answers.
        retry_after: whole seconds after which, if the answer said so.
    """

    code = "unexpected_answer"

    def __init__(self, message: str, *, field: str = "", passing: bool = True, retry_after: int | None = None) -> None:
        super().__init__(message, field=field)
        self.passing, self.retry_after = passing, retry_after


def late() -> DeadlineError:
    """What a caller is told whose time is up."""
    return DeadlineError("the server did not answer in time; allow more, or send fewer masks")


def broken_off() -> UnexpectedAnswerError:
    """A stream that ended before its last word."""
    return UnexpectedAnswerError("the server's answer broke off")


def is_passing(error: MaskmendError) -> bool:
    """Whether the same request may succeed a little later. Refining has no side effects: asking twice does no harm."""
    return error.code in _WORTH_ANOTHER_TRY and getattr(error, "passing", True)


def mirrored(
    code: str, message: str, field: str = "", *, request_id: str = "", retry_after: int | None = None
) -> MaskmendError:
    """The error that a server told of, as the class it was raised as there."""
    kind = _by_code().get(code, ServiceError)
    error = kind(message, field=field)
    error.request_id = request_id
    if isinstance(error, ServiceError):
        error.retry_after = retry_after
    return error


@cache
def _by_code() -> dict[str, type[MaskmendError]]:
    found: dict[str, type[MaskmendError]] = {}
    kinds: list[type[MaskmendError]] = [MaskmendError]
    while kinds:
        kind = kinds.pop()
        found.setdefault(kind.code, kind)
        kinds += kind.__subclasses__()
    return found
