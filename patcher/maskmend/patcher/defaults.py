"""How strict the guard is unless told otherwise; docs/quality.md has the curves they were chosen by. Imports nothing."""

from __future__ import annotations

from typing import Final

HOLD: Final = 0.15
"""A pixel changes when its mean probability is beyond 0.5 by more than this."""
REACH: Final = 16
"""Farthest that an edge may move, in px."""
CAUTION: Final = 0.5
"""Least chance of being an improvement that a change, and an instance, must have."""
LEAST_IOU: Final = 0.5
"""Least IoU of refined and coarse mask for a refinement to be believed."""
