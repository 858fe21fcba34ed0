"""Lets the kernels run as plain Python where `NUMBA_DISABLE_JIT=1` asks for it: coverage and mutation tests look into them.

Without its compiler numba has nothing to call for the three intrinsics; here they are, as plainly as can be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numba.extending

WORD = 64
TOO_LONG = (
    "torch", "benchmark", "thousand", "larger", "long_outlines", "several_passes", "far_apart", "full_frame", "moved_mask",
    "seed_changes", "agree_with_opencv", "more_caution",
)  # fmt: skip
"""Words in the names of tests that import a slow library, or take many large masks: as plain Python they take minutes, and
run no line that the others do not."""


def trailing_zeros(word: Any) -> int:
    value = int(word)
    return (value & -value).bit_length() - 1 if value else WORD


def leading_zeros(word: Any) -> int:
    return WORD - int(word).bit_length()


def set_bits(word: Any) -> int:
    return int(word).bit_count()


PLAIN: dict[str, Callable[[Any], int]] = {
    function.__name__: function for function in (trailing_zeros, leading_zeros, set_bits)
}


def prepare() -> None:
    """Put the plain functions in the place of numba's intrinsics; must come before the first import of the package."""
    if numba.config.DISABLE_JIT:
        numba.extending.intrinsic = lambda function: PLAIN[function.__name__]


def left_out(name: str) -> bool:
    """Whether a test is not run on plain Python."""
    return bool(numba.config.DISABLE_JIT) and any(word in name for word in TOO_LONG)
