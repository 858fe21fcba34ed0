"""What the service answers when it cannot do what was asked: one HTTP status and one gRPC status for each error."""

from __future__ import annotations

from typing import ClassVar

from maskmend.patcher.errors import (
    ImageError,
    MaskError,
    MaskmendError,
    OptionError,
    RuntimeLostError,
    RuntimeUnavailableError,
    UnsupportedImageError,
    WeightsError,
)
from maskmend.service.schema import ErrorBody


class ServiceError(MaskmendError):
    """An error of the service.

    Attributes:
        status: HTTP status.
        grpc: name of the gRPC status.
        retry_after: whole seconds after which trying again makes sense; None when it never does.
    """

    code = "internal"
    status: ClassVar[int] = 500
    grpc: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, field: str = "", retry_after: int | None = None) -> None:
        super().__init__(message, field=field)
        self.retry_after = retry_after


class BadRequestError(ServiceError):
    """A request that cannot even be read."""

    code, status, grpc = "bad_request", 400, "INVALID_ARGUMENT"


class UnauthorizedError(ServiceError):
    """No key, or a wrong one."""

    code, status, grpc = "unauthorized", 401, "UNAUTHENTICATED"


class ForbiddenError(ServiceError):
    """A URL that the service may not fetch."""

    code, status, grpc = "forbidden", 403, "PERMISSION_DENIED"


class NotFoundError(ServiceError):
    """A model or a page that is not there."""

    code, status, grpc = "not_found", 404, "NOT_FOUND"


class MethodError(ServiceError):
    """A path that is there, but not for this method."""

    code, status, grpc = "method_not_allowed", 405, "UNIMPLEMENTED"


class StalledError(ServiceError):
    """A body that did not arrive in time."""

    code, status, grpc = "request_timeout", 408, "DEADLINE_EXCEEDED"


class TooLargeError(ServiceError):
    """More bytes than the limits allow."""

    code, status, grpc = "too_large", 413, "RESOURCE_EXHAUSTED"


class MediaTypeError(ServiceError):
    """A content type that the service does not read."""

    code, status, grpc = "unsupported_media_type", 415, "INVALID_ARGUMENT"


class InvalidRequestError(ServiceError):
    """A request that can be read but does not say what it must."""

    code, status, grpc = "invalid_request", 422, "INVALID_ARGUMENT"


class OverloadedError(ServiceError):
    """The queue is full, or too long for the request's deadline."""

    code, status, grpc = "overloaded", 429, "RESOURCE_EXHAUSTED"


class RateLimitedError(ServiceError):
    """More requests than the key's share."""

    code, status, grpc = "rate_limited", 429, "RESOURCE_EXHAUSTED"


class CancelledError(ServiceError):
    """The client went away; nobody reads this."""

    code, status, grpc = "cancelled", 499, "CANCELLED"


class UnavailableError(ServiceError):
    """The service is stopping, or not ready."""

    code, status, grpc = "unavailable", 503, "UNAVAILABLE"


class DeadlineError(ServiceError):
    """The request's time is up."""

    code, status, grpc = "deadline_exceeded", 504, "DEADLINE_EXCEEDED"


_OF_THE_LIBRARY: tuple[tuple[type[MaskmendError], int, str], ...] = (
    (UnsupportedImageError, 415, "INVALID_ARGUMENT"),
    (ImageError, 422, "INVALID_ARGUMENT"),
    (MaskError, 422, "INVALID_ARGUMENT"),
    (OptionError, 422, "INVALID_ARGUMENT"),
    (RuntimeUnavailableError, 503, "UNAVAILABLE"),
    (WeightsError, 503, "UNAVAILABLE"),
)


def foreseen(error: BaseException) -> MaskmendError:
    """An error of ours as it is; in place of any other, one that says nothing but where to look."""
    if isinstance(error, MaskmendError):
        return error
    if isinstance(error, MemoryError):
        return UnavailableError("there is not enough memory for this request; try again later", retry_after=5)
    return ServiceError("something went wrong; the server's log says what")


def out_of_memory(error: BaseException) -> bool:
    """Whether a network failed for want of memory."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "bad_alloc" in text or "failed to allocate" in text


def network_error(error: Exception) -> ServiceError:
    """What a request is told whose patches the network did not take. The log has the error itself."""
    if isinstance(error, RuntimeLostError):
        return UnavailableError(
            "no Triton answers, or none has this model; try again later. The log of the service says more",
            retry_after=error.retry_after,
        )
    if isinstance(error, RuntimeUnavailableError):
        return UnavailableError(
            "the runtime of this model is not there; the log of the service says more", retry_after=5
        )
    if out_of_memory(error):
        return UnavailableError("there is not enough memory for a single patch; try again later", retry_after=5)
    return ServiceError("the network failed on this request; the server's log says why")


def error_body(error: BaseException, name: str) -> ErrorBody:
    """What the client is told of an error. `name`: of the request."""
    ours = foreseen(error)
    return ErrorBody(code=ours.code, message=str(ours)[:1500], field=ours.field[:200], request_id=name)


def http_status(error: MaskmendError) -> int:
    """HTTP status of any error of maskmend."""
    if isinstance(error, ServiceError):
        return error.status
    return next((status for kind, status, _ in _OF_THE_LIBRARY if isinstance(error, kind)), 500)


def grpc_status(error: MaskmendError) -> str:
    """Name of the gRPC status of any error of maskmend."""
    if isinstance(error, ServiceError):
        return error.grpc
    return next((name for kind, _, name in _OF_THE_LIBRARY if isinstance(error, kind)), "INTERNAL")
