from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.service import strict_json
from maskmend.service.errors import BadRequestError, InvalidRequestError, MediaTypeError, ServiceError
from maskmend.service.inputs import IndexMask
from maskmend.service.requests import read_job
from maskmend.service.strict_json import read_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALUES)
def test_plain_json_is_read_as_it_is(value: object) -> None:
    assert read_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "9" * 31, '"\\ud800"', '"\\uDFFF"', b"\xff", "[" * 40 + "]" * 40]
)
def test_what_is_no_json_is_a_bad_request(text: str | bytes) -> None:
    with pytest.raises(BadRequestError):
        read_json(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", "1e400", '{"a": 1, "a": 1}', '[{"b": {"a": 1, "a": 2}}]'])
def test_what_json_cannot_mean_is_invalid(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        read_json(text.encode())


@pytest.mark.parametrize("item", ["1", "[]", " {}", "\n[[1]]"])
def test_more_values_than_any_request_needs(item: str) -> None:
    with pytest.raises(InvalidRequestError, match="holds more than"):
        read_json(("[" + ",".join([item] * 2_000_002) + "]").encode())
    assert len(read_json(("[" + ",".join([item] * 90_000) + "]").encode())) == 90_000


MANY = {
    "lists as members": b"{" + b",".join(b'"%d":[]' % n for n in range(300_000)) + b"}",
    "objects as members": b"{" + b",".join(b'"%d": {}' % n for n in range(300_000)) + b"}",
    "lists after escapes": b'["\\\\",' + b",".join([b"[]"] * 300_000) + b"]",
    "lists after a quote in a text": b'["\\"",' + b",".join([b"[]"] * 300_000) + b"]",
    "first of a list": b"[" + b",".join([b"[[[1]]]"] * 100_000) + b"]",
    "members": b"{" + b",".join(b'"%d":1' % n for n in range(600_000)) + b"}",
    "texts": b"[" + b",".join([b'"a"'] * 600_000) + b"]",
    "escapes": b'["' + b"\\n" * 5_000_000 + b'"]',
}


@pytest.mark.parametrize("name", MANY)
def test_more_of_anything_than_any_request_needs(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="holds more than"):
        read_json(MANY[name])


def test_what_is_inside_texts_does_not_count() -> None:
    text = '[{,:["\\' * 400_000
    assert read_json(json.dumps([text, text]).encode()) == [text, text]


@settings(deadline=None)
@given(VALUES, st.integers(1, 9))
def test_amounts_are_those_of_the_value_wherever_a_part_ends(value: object, part: int) -> None:
    data = json.dumps(value, ensure_ascii=False).encode()
    counted = {"lists and objects": 0, "texts and keys": 0}

    def count(item: object) -> None:
        if isinstance(item, (dict, list)):
            counted["lists and objects"] += 1
            for inner in item:
                count(inner)
            for inner in item.values() if isinstance(item, dict) else ():
                count(inner)
        elif isinstance(item, str):
            counted["texts and keys"] += 1

    count(value)
    limits = {"lists and objects": "_MOST_CONTAINERS", "texts and keys": "_MOST_TEXTS"}
    for what, limit in limits.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(strict_json, "_AT_ONCE", part)
            patch.setattr(strict_json, limit, counted[what])
            assert read_json(data) == value
            patch.setattr(strict_json, limit, counted[what] - 1)
            with pytest.raises(InvalidRequestError, match=what):
                read_json(data)


@settings(deadline=None)
@given(
    st.binary(max_size=300), st.sampled_from(["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
)
def test_random_bodies_are_refused_and_nothing_else(body: bytes, content_type: str) -> None:
    with pytest.raises(ServiceError):
        read_job(content_type, body, "id", 10, allow_urls=False)


PART = st.tuples(
    st.sampled_from([b"image", b"masks", b"mask", b"index_mask", b"nms", b"guard", b"other"]),
    st.sampled_from([b"", b"[]", b"[1]", b"0.3", b"true", b"\xff", b"\r\n--x", b'[{"size":[1,1],"counts":[1]}]']),
)


@settings(deadline=None)
@given(st.lists(PART, max_size=5), st.sampled_from([b"--x--\r\n", b"--x--", b"", b"--x"]))
def test_multipart_bodies_are_read_or_refused_and_nothing_else(parts: list[tuple[bytes, bytes]], end: bytes) -> None:
    head = b'--x\r\ncontent-disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    body = b"".join(head % part for part in parts) + end
    try:
        job = read_job("multipart/form-data; boundary=x", body, "id", 10, allow_urls=False)
    except ServiceError:
        return
    assert job.image
    assert isinstance(job.masks, IndexMask) or len(job.masks) >= 0


def test_another_content_type_is_named() -> None:
    with pytest.raises(MediaTypeError, match="content-type"):
        read_job("text/html", b"x", "id", 10, allow_urls=False)
