"""How the kernels of this package are compiled: once per machine, kept on disk, without Python's lock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """Compile a kernel with numba and keep the machine code on disk.

    Where neither the package's folder nor the user's cache folder can be written (a read-only container without
    `NUMBA_CACHE_DIR`), the kernel is compiled anew in every process instead of failing; so it is where the disk is full, or
    what was kept is damaged.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        kernel = njit(cache=True, **options)(function)
        _forgive(kernel._cache)
    except RuntimeError:
        kernel = njit(**options)(function)
    return kernel  # type: ignore[no-any-return]


def _forgive(cache: Any) -> None:
    """Have numba take a kept kernel that it cannot read, or keep, for one that was never kept."""
    load, save = cache.load_overload, cache.save_overload

    def load_overload(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except Exception:  # whatever the bytes of a damaged file happen to mean
            # Without this the damaged index would stand in the way of every later process too.
            with suppress(OSError):
                cache.flush()
            return None

    def save_overload(*arguments: Any) -> None:
        with suppress(OSError):
            save(*arguments)

    cache.load_overload, cache.save_overload = load_overload, save_overload


@intrinsic
def trailing_zeros(typing_context: Any, word: Any) -> Any:
    """Number of zero bits below the lowest set bit of a uint64; 64 for the word 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def set_bits(typing_context: Any, word: Any) -> Any:
    """Number of set bits of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@intrinsic
def leading_zeros(typing_context: Any, word: Any) -> Any:
    """Number of zero bits above the highest set bit of a uint64; 64 for the word 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@compiled
def whole(value: Any) -> int:
    """A number as int64. Kernels need it: numba makes float64 of a sum of uint64 and int64."""
    return np.int64(value)  # type: ignore[return-value]
