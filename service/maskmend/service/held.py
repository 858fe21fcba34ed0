"""How much memory all requests together may hold."""

from __future__ import annotations

from maskmend.service.errors import OverloadedError

SLOWEST = 100_000
"""Bytes per second that a body must come with, and an answer must be taken with."""


class Budget:
    """Bytes that requests may hold together: bodies, messages, what is unpacked of them. For one event loop.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    def share(self) -> Share:
        """What one request holds of it; nothing yet."""
        return Share(self)

    def _take(self, size: int) -> None:
        if self._held + size > self._most:
            raise OverloadedError("too many large requests at once; try again in a while", retry_after=2)
        self._held += size

    def _give(self, size: int) -> None:
        self._held -= size


class Share:
    """One request's part of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def take(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            OverloadedError: all requests together would hold too much; nothing is taken.
        """
        self._budget._take(size)
        self._size += size

    def give_back(self) -> None:
        """Hold nothing any more. May be called again."""
        self._budget._give(self._size)
        self._size = 0
