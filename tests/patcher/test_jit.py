from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from numba import njit

from maskmend.patcher import _jit

WORDS = [0, 1, 2, 3, 2**31, 2**32 - 1, 2**32, 2**63, 2**63 + 1, 2**64 - 1, 0x0123_4567_89AB_CDEF]


@njit
def of_a_word(word):
    return _jit.trailing_zeros(word), _jit.leading_zeros(word), _jit.set_bits(word), _jit.whole(word)


@pytest.mark.parametrize("word", WORDS)
def test_bits_of_a_word_are_counted(word: int) -> None:
    trailing, leading, set_, whole = of_a_word(np.uint64(word))
    digits = f"{word:064b}"
    assert trailing == 64 - len(digits.rstrip("0"))
    assert leading == 64 - len(digits.lstrip("0"))
    assert set_ == digits.count("1")
    if word < 2**63:
        assert whole == word


def test_a_sum_of_a_whole_number_stays_whole() -> None:
    # Without it numba makes a float of uint64 + int64, which knows no odd numbers beyond 2**53.
    @njit
    def next_to(word):
        return _jit.whole(word) + 1

    assert next_to(np.uint64(2**53)) == 2**53 + 1


def test_machine_code_is_kept_or_made_anew_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwritable(*_: object, cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        assert options == {"nogil": True, "error_model": "numpy"}
        return lambda function: ("compiled", function)

    monkeypatch.setattr(_jit, "njit", unwritable)
    assert _jit.compiled(len) == ("compiled", len)


def test_kernels_give_up_the_lock_and_divide_as_numpy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def kernel() -> None: ...

    kernel._cache = SimpleNamespace(load_overload=None, save_overload=None)  # type: ignore[attr-defined]
    monkeypatch.setattr(_jit, "njit", lambda **options: asked.append(options) or (lambda function: function))
    assert _jit.compiled(kernel) is kernel
    assert asked == [{"nogil": True, "error_model": "numpy", "cache": True}]
