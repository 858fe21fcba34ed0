"""multipart/form-data from bytes that have already met the size limit."""

from __future__ import annotations

from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from maskmend.service.errors import BadRequestError

_MOST_HEADERS = 8
_LONGEST_HEADER = 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One part; a file where it was sent with a file name, which is not kept."""

    name: str
    data: bytes
    is_file: bool


class _Collector:
    """What the parser's callbacks build up."""

    def __init__(self, most: int) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._most = most
        self._header = self._value = b""
        self._disposition = b""
        self._data = bytearray()

    def begin(self) -> None:
        if len(self.parts) >= self._most:
            raise BadRequestError(f"the body has more than {self._most} parts")
        self._disposition, self._data = b"", bytearray()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        if self._header.lower() == b"content-transfer-encoding" and self._value.lower() not in (
            b"binary",
            b"8bit",
            b"7bit",
        ):
            raise BadRequestError("a part has a content-transfer-encoding; send it as it is")
        self._header = self._value = b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += memoryview(data)[start:end]

    def part_end(self) -> None:
        kind, options = parse_options_header(self._disposition)
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise BadRequestError("a part has no name; send content-disposition: form-data; name=...")
        self.parts.append(Part(name.decode("latin-1"), bytes(self._data), b"filename" in options))

    def end(self) -> None:
        self.ended = True


def read_multipart(content_type: str, body: bytes, most: int) -> list[Part]:
    """Split a body into its parts, in their order.

    Args:
        content_type: header of the request.
        body: whole.
        most: parts it may have.

    Raises:
        BadRequestError: no boundary, cut off, too many parts, or headers of a part beyond reason.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BadRequestError("content-type has no boundary; let your client library write this header")
    collector = _Collector(most)
    callbacks = {
        "on_part_begin": collector.begin,
        "on_header_field": collector.header_field,
        "on_header_value": collector.header_value,
        "on_header_end": collector.header_end,
        "on_part_data": collector.part_data,
        "on_part_end": collector.part_end,
        "on_end": collector.end,
    }
    try:
        parser = MultipartParser(
            boundary,
            callbacks,  # type: ignore[arg-type]
            max_header_count=_MOST_HEADERS,
            max_header_size=_LONGEST_HEADER,
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise BadRequestError("the body is not multipart/form-data as its content-type says") from error
    if not collector.ended:
        raise BadRequestError("the body ends before its last boundary; it was cut off")
    return collector.parts
