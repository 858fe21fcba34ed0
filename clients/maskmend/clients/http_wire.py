"""What goes over HTTP: a call as form fields, and what comes back as results and errors."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
from pydantic import ValidationError

from maskmend.clients.calls import LARGEST_ANSWER, Call
from maskmend.clients.errors import UnexpectedAnswerError, broken_off, mirrored
from maskmend.clients.results import RefinedInstance, RefineResult
from maskmend.patcher.errors import MaskmendError
from maskmend.service.schema import ErrorBody, RefineAnswer, RefinedMask

REFINE, STREAM = "/v1/refine", "/v1/refine/stream"
_LONGEST_WAIT = 3600


def form(call: Call, left: float) -> dict[str, Any]:
    """`files` and `data` of a request. `left`: seconds until its deadline."""
    fields = {**call.options, "timeout_s": round(left, 3)}
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in fields.items()}
    return {
        "files": {"image": ("image", call.file(), "application/octet-stream")},
        "data": {"masks": orjson.dumps(call.masks).decode(), **texts},
    }


def result(body: bytes) -> RefineResult:
    """The answer of a request that succeeded.

    Raises:
        UnexpectedAnswerError: the body is no such answer.
    """
    try:
        answer = RefineAnswer.model_validate_json(body)
    except ValidationError:
        raise UnexpectedAnswerError("the server's answer is damaged") from None
    if [mask.index for mask in answer.instances] != list(range(len(answer.instances))):
        raise UnexpectedAnswerError("the instances of the server's answer are out of order")
    instances = [instance(mask) for mask in answer.instances]
    return RefineResult(
        answer.height, answer.width, instances, answer.provenance, answer.timings or {}, answer.request_id
    )


def line(text: bytes) -> tuple[int, RefinedInstance] | RefineAnswer:
    """A line of a stream: index and instance, or, as the last, what holds for all of them.

    Raises:
        MaskmendError: the error that the line tells of.
        UnexpectedAnswerError: it is no such line.
    """
    try:
        content = orjson.loads(text)
        if "instance" in content:
            mask = RefinedMask.model_validate(content["instance"])
            return mask.index, instance(mask)
        if "done" in content:
            return RefineAnswer.model_validate({**content["done"], "instances": []})
        told = ErrorBody.model_validate(content["error"])
    except (orjson.JSONDecodeError, ValidationError, KeyError, TypeError):
        raise UnexpectedAnswerError("a line of the server's answer is damaged") from None
    raise mirrored(told.code, told.message, told.field, request_id=told.request_id)


def instance(mask: RefinedMask) -> RefinedInstance:
    """One instance of an answer.

    Raises:
        UnexpectedAnswerError: what was asked for is missing.
    """
    if not isinstance(mask.segmentation, dict) or mask.changed_pixels is None or mask.max_displacement_px is None:
        raise UnexpectedAnswerError("an instance of the server's answer has no mask, or no report")
    return RefinedInstance(
        mask.segmentation,
        mask.box,
        mask.area,
        mask.confidence,
        mask.score,
        mask.abstained,
        mask.changed_pixels,
        mask.undone or {},
        mask.max_displacement_px,
    )


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> MaskmendError:
    """The error that an answer other than 200 stands for."""
    wait = _seconds(headers.get("retry-after"))
    try:
        told = ErrorBody.model_validate_json(body)
    except ValidationError:
        # Not ours: a proxy in between, or another kind of server.
        return UnexpectedAnswerError(
            f"the server answered with status {status}; is this the address of maskmend?",
            passing=status >= 500 or status in (408, 429),
            retry_after=wait,
        )
    return mirrored(told.code, told.message, told.field, request_id=told.request_id, retry_after=wait)


def _seconds(text: str | None) -> int | None:
    """`Retry-After`: seconds, or a date."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return min(_LONGEST_WAIT, int(text.strip()[:6]))
    try:
        return max(0, min(_LONGEST_WAIT, math.ceil(parsedate_to_datetime(text).timestamp() - time.time())))
    except (ValueError, OverflowError):
        return None


class Body:
    """The body of an answer, as it comes: within the size that it may have, and kept aside where it is a refusal.

    Args:
        status: of the answer.
        headers: of the answer.
    """

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers = status, headers
        self._size, self._refused = 0, bytearray()

    def take(self, chunk: bytes) -> bytes:
        """What of a chunk is the answer that was asked for: all of it, or nothing.

        Raises:
            UnexpectedAnswerError: the body grows beyond what any answer is.
        """
        self._size += len(chunk)
        if self._size > LARGEST_ANSWER:
            raise UnexpectedAnswerError(f"the server's answer is larger than {LARGEST_ANSWER} bytes", passing=False)
        if self._status == 200:
            return chunk
        self._refused += chunk
        return b""

    def end(self) -> None:
        """It is whole.

        Raises:
            MaskmendError: what it refuses; see `refusal`.
        """
        if self._status != 200:
            raise refusal(self._status, self._headers, bytes(self._refused))


class Lines:
    """Puts the chunks of a stream together to lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._done = False

    def feed(self, chunk: bytes) -> Iterator[tuple[int, RefinedInstance]]:
        """Index and instance of each line that is whole.

        Raises:
            MaskmendError: see `line`.
        """
        *whole_lines, self._rest = (self._rest + chunk).split(b"\n")
        for text in whole_lines:
            found = line(text)
            if isinstance(found, tuple):
                yield found
            else:
                self._done = True

    def end(self) -> None:
        """The stream is at its end.

        Raises:
            UnexpectedAnswerError: without its last line.
        """
        if not self._done:
            raise broken_off()
