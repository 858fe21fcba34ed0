"""What goes over gRPC: a call as a message, and what comes back as results and errors."""

from __future__ import annotations

from typing import Any

import grpc

from maskmend.clients.calls import LARGEST_ANSWER, Call
from maskmend.clients.errors import ConnectionFailedError, UnexpectedAnswerError, late, mirrored
from maskmend.clients.results import RefinedInstance, RefineResult
from maskmend.patcher.errors import MaskmendError
from maskmend.service.proto import maskmend_pb2 as pb

CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", LARGEST_ANSWER),
    # A connection that a router has dropped without a word is noticed after this, not at the next deadline.
    ("grpc.keepalive_time_ms", 300_000),
    # Waiting between tries is ours; gRPC's own would keep a server that is back unseen for up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    # Which is, by its name, how long a connection may take to be made.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
_LARGE = 24_000_000
"""Bytes of an array from which it is sent as PNG: a server takes 64 MB in one message unless told otherwise."""
_CODES = {
    grpc.StatusCode.UNAUTHENTICATED: "unauthorized",
    grpc.StatusCode.PERMISSION_DENIED: "forbidden",
    grpc.StatusCode.NOT_FOUND: "not_found",
    grpc.StatusCode.INVALID_ARGUMENT: "invalid_request",
    grpc.StatusCode.INTERNAL: "internal",
    grpc.StatusCode.UNKNOWN: "internal",
}
"""For calls that ended without our own code: refused by the library, or by something in between."""


def message(call: Call, request_id: str = "") -> pb.RefineRequest:
    """A `RefineRequest`."""
    out = pb.RefineRequest(request_id=request_id, options=pb.RefineOptions(**call.options))
    if isinstance(call.image, bytes) or call.image.nbytes > _LARGE:
        out.image = call.file()
    else:
        out.image_tensor.CopyFrom(pb.Tensor(shape=call.image.shape, dtype="uint8", data=call.image.tobytes()))
    out.masks.extend(_mask(mask) for mask in call.masks)
    return out


def _mask(mask: dict[str, Any] | list[list[float]]) -> pb.Mask:
    if isinstance(mask, dict):
        return pb.Mask(rle=pb.Rle(size=mask["size"], counts=mask["counts"].encode("ascii")))
    return pb.Mask(polygons=pb.Polygons(polygons=[pb.Polygon(coordinates=polygon) for polygon in mask]))


def result(answer: pb.RefineResponse) -> RefineResult:
    """A result.

    Raises:
        UnexpectedAnswerError: an instance has no mask.
    """
    if [mask.index for mask in answer.instances] != list(range(len(answer.instances))):
        raise UnexpectedAnswerError("the instances of the server's answer are out of order")
    found = [instance(mask) for mask in answer.instances]
    provenance = {key: getattr(value, value.WhichOneof("kind") or "text") for key, value in answer.provenance.items()}
    return RefineResult(answer.height, answer.width, found, provenance, dict(answer.timings), answer.request_id)


def instance(mask: pb.RefinedMask) -> RefinedInstance:
    """One instance of an answer.

    Raises:
        UnexpectedAnswerError: it has no mask.
    """
    if mask.segmentation.WhichOneof("form") != "rle" or len(mask.box) != 4:
        raise UnexpectedAnswerError("an instance of the server's answer has no mask")
    rle = mask.segmentation.rle
    try:
        counts = rle.counts.decode("ascii")
    except UnicodeDecodeError:
        raise UnexpectedAnswerError("an instance of the server's answer is damaged") from None
    x, y, width, height = mask.box
    return RefinedInstance(
        {"size": list(rle.size), "counts": counts},
        (x, y, width, height),
        mask.area,
        mask.confidence,
        mask.score,
        mask.abstained if mask.HasField("abstained") else None,
        mask.changed_pixels,
        dict(mask.undone),
        mask.max_displacement_px,
    )


def event(item: pb.RefineEvent) -> tuple[int, RefinedInstance] | pb.RefineResponse:
    """An event of a stream: index and instance, or, as the last, what holds for all of them.

    Raises:
        MaskmendError: the error that the event tells of.
        UnexpectedAnswerError: it says nothing.
    """
    kind = item.WhichOneof("event")
    if kind == "instance":
        return item.instance.index, instance(item.instance)
    if kind == "done":
        return item.done
    if kind == "error":
        told = item.error
        raise mirrored(told.code, told.message, told.field, request_id=told.request_id)
    raise UnexpectedAnswerError("the server's answer is empty")


def refusal(error: grpc.RpcError) -> MaskmendError:
    """The error that a call which failed stands for."""
    status, text = error.code(), str(error.details() or "")
    told = {key: value for key, value in error.trailing_metadata() or () if isinstance(value, str)}
    wait = told.get("retry-after", "")
    code = told.get("maskmend-code") or _CODES.get(status, "")
    if code:
        return mirrored(
            code,
            text,
            told.get("maskmend-field", ""),
            request_id=told.get("x-request-id", ""),
            retry_after=int(wait) if wait.isdecimal() else None,
        )
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return late()
    if status is grpc.StatusCode.UNAVAILABLE:
        return ConnectionFailedError(f"the server cannot be reached, or the connection broke: {text[:200]}")
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" not in text:
        return mirrored("overloaded", "the server has too many calls open; try again in a while", retry_after=1)
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return mirrored("too_large", f"the message is too large: {text[:200]}")
    return UnexpectedAnswerError(f"the call ended with {status.name}: {text[:200]}", passing=False)
