"""Keys, and how often each may ask."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from maskmend.patcher.errors import OptionError
from maskmend.service.errors import RateLimitedError, UnauthorizedError

_SHORTEST = 16
_MOST_CALLERS = 10_000


class Keys:
    """API keys, of which only digests are held.

    Args:
        file: one key a line, optionally as `NAME: KEY`; empty lines and those that begin with # are passed over. None lets
            anyone in.

    Raises:
        OptionError: the file holds no key, or one of fewer than 16 characters.
    """

    def __init__(self, file: Path | None) -> None:
        self._digests: list[tuple[str, bytes]] = []
        if file is None:
            return
        for number, line in enumerate(file.read_text().splitlines(), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            name, found, key = text.rpartition(":")
            key = key.strip()
            if len(key) < _SHORTEST:
                raise OptionError(
                    f"api_keys_file, line {number}: a key needs {_SHORTEST} characters or more", field="api_keys_file"
                )
            self._digests.append((name.strip() if found else f"line {number}", _digest(key)))
        if not self._digests:
            raise OptionError(
                "api_keys_file holds no key; leave the setting out to let anyone in", field="api_keys_file"
            )

    def caller(self, authorization: str | None, api_key: str | None) -> str | None:
        """Name of whoever shows this key; None when no keys are asked for.

        Args:
            authorization: header of that name, `Bearer KEY`.
            api_key: header `x-api-key`.

        Raises:
            UnauthorizedError: no key, or none of ours.
        """
        if not self._digests:
            return None
        scheme, _, bearer = (authorization or "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else api_key
        if not given:
            raise UnauthorizedError("send a key, as authorization: Bearer KEY or x-api-key: KEY", field="authorization")
        digest = _digest(given)
        # All are compared, each in constant time: how long it takes tells nothing.
        names = [name for name, known in self._digests if hmac.compare_digest(digest, known)]
        if not names:
            raise UnauthorizedError("this key is not known here; ask whoever runs the server", field="authorization")
        return names[0]


class RateLimit:
    """A bucket for each caller, that fills evenly and holds what it gets in ten seconds.

    Args:
        per_minute: requests; 0 is no limit.
        clock: seconds, monotonic.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._most = max(1.0, self._rate * 10)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one request.

        Raises:
            RateLimitedError: the bucket is empty.
        """
        if not self._rate:
            return
        now = self._clock()
        held, since = self._buckets.pop(caller, (self._most, now))
        held = min(self._most, held + (now - since) * self._rate)
        enough = held >= 1
        self._buckets[caller] = (held - 1 if enough else held, now)
        if len(self._buckets) > _MOST_CALLERS:
            self._buckets.popitem(last=False)
        if not enough:
            raise RateLimitedError(
                f"more than {self._rate * 60:g} requests a minute; slow down",
                retry_after=max(1, math.ceil((1 - held) / self._rate)),
            )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
