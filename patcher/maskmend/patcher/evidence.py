"""How likely a change is an improvement, judged from what can be seen without the truth.

Two logistic regressions, one of single changes and one of whole instances, fitted on validation images by
`benchmarks/quality/calibrate.py`, which draws the curve of harm against gain. Networks differ in how sure they are of
themselves, so a set of weights may bring tables of its own; those below were fitted to `bpr-small`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher.changes import Changes
from maskmend.patcher.columns import Columns
from maskmend.patcher.defaults import HOLD
from maskmend.patcher.errors import OptionError

CHANGE_WEIGHTS = {
    "constant": -6.788,
    "log size": -0.099,
    "log depth": -0.553,
    "certainty": 5.593,
    "spread": -2.831,
    "support": 1.264,
    "log area": 0.538,
    "growth": 0.425,
}
"""Log-odds that a change is right in more than half of its pixels; see `change_features`."""

INSTANCE_WEIGHTS = {
    "constant": -5.351,
    "log shift": 0.143,
    "certainty": 8.041,
    "log area": 0.064,
    "lean": -1.921,
    "deep": -0.411,
}
"""Log-odds that the refined mask has the higher IoU, a lower one counting double; see `instance_features`."""


@dataclass(frozen=True)
class Calibration:
    """How much each feature speaks for a change.

    Attributes:
        changes: log-odds of `CHANGE_WEIGHTS`' kind, with the same keys.
        instances: log-odds of `INSTANCE_WEIGHTS`' kind, with the same keys.
        strength: how far probabilities are held back towards the coarse mask, 0 to 0.5; see `hold`.

    Raises:
        OptionError: a key is missing or unknown, or a value is not finite or out of its range.
    """

    changes: Mapping[str, float]
    instances: Mapping[str, float]
    strength: float = HOLD

    def __post_init__(self) -> None:
        for name, given, wanted in (
            ("changes", self.changes, CHANGE_WEIGHTS),
            ("instances", self.instances, INSTANCE_WEIGHTS),
        ):
            if set(given) != set(wanted) or not np.isfinite(list(given.values())).all():
                raise OptionError(
                    f"{name} of the guard's tables must have a finite number for each of {', '.join(wanted)}",
                    field=name,
                )

        if not 0 <= self.strength <= 0.5:
            raise OptionError("strength of the guard's tables must be 0 to 0.5", field="strength")

    def change_chances(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Chance of each change to be right, of `Evidence.change_features`."""
        return chances(features, {name: self.changes[name] for name in CHANGE_WEIGHTS})

    def instance_chances(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Chance of each instance to be better, of rows of `Evidence.instance_features`."""
        return chances(features, {name: self.instances[name] for name in INSTANCE_WEIGHTS})


DEFAULT_CALIBRATION = Calibration(CHANGE_WEIGHTS, INSTANCE_WEIGHTS)

ADAPTIVE_CALIBRATION = Calibration(
    {
        "constant": -3.839,
        "log size": 0.301,
        "log depth": -0.372,
        "certainty": 3.491,
        "spread": 4.593,
        "support": 0.919,
        "log area": 0.292,
        "growth": 0.320,
    },
    {
        "constant": -6.319,
        "log shift": 0.326,
        "certainty": 10.182,
        "log area": 0.084,
        "lean": -1.664,
        "deep": 1.153,
    },
)
"""The same after one sparse look (patches chosen adaptively): `calibrate.py --patches adaptive`, on `bpr-small`."""

DEEP = 2.0
"""Depth in px from which a change is more than the jitter of an edge."""
_SUPPORT = 1.5


@dataclass(frozen=True, slots=True)
class Evidence:
    """The changes of one instance, with what speaks for and against them.

    Attributes:
        before: the region of the coarse mask that was looked at, all of it and more.
        after: the same of the refined mask.
        changes: in which regions they differ.
        edge: length of the coarse edge in px.
    """

    before: Columns
    after: Columns
    changes: Changes
    edge: int

    def without_doubtful(self, caution: float, calibration: Calibration = DEFAULT_CALIBRATION) -> Columns:
        """The refined mask less the changes whose chance of being right is below `caution`."""
        doubtful = calibration.change_chances(self.change_features()) < caution
        return self.changes.regions.flipped(self.after, doubtful) if doubtful.any() else self.after

    def chance(self, mask: Columns, calibration: Calibration = DEFAULT_CALIBRATION) -> float:
        """Chance that `mask`, the refined one less some of its changes, has a higher IoU than the coarse one."""
        kept = self.changes.regions.present(Columns(mask.bits ^ self.before.bits, mask.height))
        if not kept.any():
            return 1.0
        return float(calibration.instance_chances(self.instance_features(kept)[None])[0])

    def change_features(self) -> NDArray[np.float64]:
        """One row per change, one column per entry of `CHANGE_WEIGHTS`: float64 [R, 8]."""
        found = self.changes
        return np.stack(
            [
                np.ones(len(found.size)),
                np.log(np.maximum(found.size, 1)),
                np.log1p(found.depth),
                found.certainty,
                found.spread,
                np.clip(found.support, -_SUPPORT, _SUPPORT),
                np.full(len(found.size), self._log_area()),
                found.growth,
            ],
            axis=1,
        )

    def instance_features(self, kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        """One value per entry of `INSTANCE_WEIGHTS`, of the kept changes [R] together: float64 [6]."""
        found = self.changes
        size = found.size[kept].astype(np.float64)
        share = size / size.sum()
        return np.array(
            [
                1.0,
                np.log(size.sum() / max(self.edge, 1)),
                share @ found.certainty[kept],
                self._log_area(),
                abs(share @ found.growth[kept]),
                share @ (found.depth[kept] >= DEEP),
            ]
        )

    def _log_area(self) -> float:
        return float(np.log(max(self.before.count(), 1)))


def chances(features: NDArray[np.float64], weights: dict[str, float]) -> NDArray[np.float64]:
    """Logistic regression: features float64 [N, F], weights of the F features; chances float64 [N] from 0 to 1."""
    odds = np.clip(features @ np.array(list(weights.values())), -50, 50)
    return np.asarray(1 / (1 + np.exp(-odds)))
