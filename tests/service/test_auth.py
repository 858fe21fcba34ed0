from __future__ import annotations

from pathlib import Path

import pytest

from maskmend.patcher.errors import OptionError
from maskmend.service.auth import Keys, RateLimit
from maskmend.service.errors import RateLimitedError, UnauthorizedError

KEY = "k" * 20


def test_without_a_file_anyone_may_ask() -> None:
    assert Keys(None).caller(None, None) is None


def test_keys_have_names(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# comment\n\nalice: {KEY}\n{'b' * 16}\n")
    keys = Keys(file)
    assert keys.caller(f"Bearer {KEY}", None) == "alice"
    assert keys.caller(f"bearer  {KEY} ", None) == "alice"
    assert keys.caller(None, "b" * 16) == "line 4"
    for authorization, key in (
        (None, None),
        ("Bearer ", None),
        ("Bearer x", KEY),
        (f"Basic {KEY}", None),
        (None, "é" * 20),
    ):
        with pytest.raises(UnauthorizedError):
            keys.caller(authorization, key)
    assert KEY not in repr(vars(keys))


@pytest.mark.parametrize(
    ("text", "word"), [("", "no key"), ("# a\n", "no key"), ("short\n", "line 1"), ("a: b", "line 1")]
)
def test_a_file_that_would_let_nobody_or_everybody_in_is_refused(tmp_path: Path, text: str, word: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(OptionError, match=word):
        Keys(file)


def test_a_bucket_fills_evenly_and_says_when() -> None:
    now = [0.0]
    limit = RateLimit(60, lambda: now[0])
    for _ in range(10):
        limit.take("a")
    with pytest.raises(RateLimitedError) as caught:
        limit.take("a")
    assert caught.value.retry_after == 1
    limit.take("b")
    now[0] = 2.0
    limit.take("a")
    limit.take("a")
    with pytest.raises(RateLimitedError):
        limit.take("a")
    RateLimit(0).take("a")


def test_callers_are_not_remembered_without_end() -> None:
    limit = RateLimit(60, lambda: 0.0)
    for n in range(10_050):
        limit.take(str(n))
    assert len(limit._buckets) == 10_000
