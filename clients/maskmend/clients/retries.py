"""Whether a call is tried again, and when."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from maskmend.clients.errors import is_passing
from maskmend.patcher.errors import MaskmendError, OptionError

_MOST_DOUBLINGS = 60


@dataclass(frozen=True, slots=True)
class Retries:
    """How often to try again, and how long to wait in between.

    The wait doubles from try to try, and is drawn between half of that and all of it, so that many clients do not come back
    at once. Where the server says how long to wait (`Retry-After`), it is that long and up to a quarter more.

    Attributes:
        most: tries after the first.
        first_wait: seconds before the second try.
        longest_wait: seconds.
        seed: of the drawing; None for another one each time.

    Raises:
        OptionError: a number is below 0, or none.
    """

    most: int = 4
    first_wait: float = 0.25
    longest_wait: float = 10.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.most, int) or self.most < 0:
            raise OptionError("retries.most must be an integer, 0 or more", field="retries.most")
        for name in ("first_wait", "longest_wait"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise OptionError(f"retries.{name} must be a number of seconds, 0 or more", field=f"retries.{name}")


class Attempts:
    """The tries of one call.

    Args:
        retries: how often and how long.
        timeout: seconds for all of them together, waiting included.
        clock: seconds, monotonic.
    """

    def __init__(self, retries: Retries, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._retries, self._clock = retries, clock
        self._until = clock() + timeout
        self._made = 0
        self._random = random.Random(retries.seed)

    @property
    def left(self) -> float:
        """Seconds until the time is up, never quite 0."""
        return max(0.001, self._until - self._clock())

    def wait_after(self, error: MaskmendError) -> float:
        """Seconds to wait before the next try.

        Raises:
            MaskmendError: the very error, where another try makes no sense or would come too late.
        """
        if not is_passing(error) or self._made >= self._retries.most:
            raise error
        asked = getattr(error, "retry_after", None)
        if asked is None:
            step = min(self._retries.longest_wait, self._retries.first_wait * 2.0 ** min(self._made, _MOST_DOUBLINGS))
            wait = step * self._random.uniform(0.5, 1.0)
        else:
            wait = asked * self._random.uniform(1.0, 1.25)
        self._made += 1
        if wait >= self._until - self._clock():
            raise error
        return wait
