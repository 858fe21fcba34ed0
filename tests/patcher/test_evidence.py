from __future__ import annotations

import math

import numpy as np
import pytest
from dense_doors import columns_of, find_changes

from maskmend.patcher.errors import OptionError
from maskmend.patcher.evidence import CHANGE_WEIGHTS, INSTANCE_WEIGHTS, Calibration, Evidence, chances
from maskmend.patcher.guard import distance_to_edge, edge_length


def evidence(certainty: float = 0.8) -> Evidence:
    """A square that grows by 4 px on one side and loses a corner of 5 x 5 px."""
    before = np.zeros((60, 60), np.uint8)
    before[20:40, 20:40] = 1
    after = before.copy()
    after[20:40, 40:44] = 1
    after[20:25, 20:25] = 0
    taller = after[before != after] > 0
    mean = np.where(taller, 0.5 + certainty / 2, 0.5 - certainty / 2).astype(np.float32)
    spread, image = np.full(mean.shape, 0.1, np.float32), np.zeros((*before.shape, 3), np.uint8)
    changes = find_changes(before, after, distance_to_edge(before), mean, spread, image)
    return Evidence(columns_of(before), columns_of(after), changes, edge_length(before))


def test_features_of_changes_are_what_their_names_say() -> None:
    found = evidence()
    rows = {round(row[-1]): dict(zip(CHANGE_WEIGHTS, row, strict=True)) for row in found.change_features()}
    assert set(rows) == {1, -1}
    assert rows[1] == pytest.approx(
        {
            "constant": 1.0,
            "log size": math.log(80),
            "log depth": math.log1p(4),
            "certainty": 0.8,
            "spread": 0.1,
            "support": 0.0,
            "log area": math.log(400),
            "growth": 1.0,
        },
        abs=1e-5,
    )


def test_features_of_an_instance_weigh_changes_by_their_size() -> None:
    found = evidence()
    values = dict(zip(INSTANCE_WEIGHTS, found.instance_features(np.array([True, True])), strict=True))
    assert values["log shift"] == pytest.approx(math.log(105 / found.edge))
    assert values["lean"] == pytest.approx((80 - 25) / 105)
    assert values["deep"] == 1.0
    alone = dict(zip(INSTANCE_WEIGHTS, found.instance_features(found.changes.growth > 0), strict=True))
    assert alone["lean"] == 1.0


def test_caution_one_keeps_nothing_and_zero_everything() -> None:
    found = evidence()
    assert np.array_equal(found.without_doubtful(0.0), found.after)
    assert np.array_equal(found.without_doubtful(1.0), found.before)


def test_the_surer_the_likelier() -> None:
    values = [evidence(certainty).chance(evidence(certainty).after) for certainty in (0.35, 0.6, 0.95)]
    assert values == sorted(values)
    assert values[0] < 0.5 < values[-1]


def test_nothing_changed_is_no_risk() -> None:
    found = evidence()
    assert found.chance(found.before) == 1.0


def test_chances_are_the_logistic_of_the_odds() -> None:
    got = chances(np.array([[1.0, 2.0], [1.0, -1000.0]]), {"a": 0.5, "b": 1.5})
    assert got == pytest.approx([1 / (1 + math.exp(-3.5)), 0.0], abs=1e-12)


def test_tables_of_other_weights_judge_otherwise() -> None:
    found, plain = evidence(0.6), Calibration(CHANGE_WEIGHTS, INSTANCE_WEIGHTS)
    bold = Calibration(dict(CHANGE_WEIGHTS, constant=50.0), dict(INSTANCE_WEIGHTS, constant=50.0))
    shy = Calibration(dict(CHANGE_WEIGHTS, constant=-50.0), dict(INSTANCE_WEIGHTS, constant=-50.0))
    assert np.array_equal(found.without_doubtful(0.5, bold), found.after)
    assert np.array_equal(found.without_doubtful(0.5, shy), found.before)
    assert found.chance(found.after, shy) < found.chance(found.after, plain) < found.chance(found.after, bold)
    assert found.chance(found.after, plain) == found.chance(found.after)


def test_the_order_of_a_table_does_not_matter() -> None:
    found = evidence(0.6)
    turned = Calibration(dict(reversed(CHANGE_WEIGHTS.items())), dict(reversed(INSTANCE_WEIGHTS.items())))
    assert found.chance(found.after, turned) == found.chance(found.after)
    assert np.array_equal(found.without_doubtful(0.5, turned), found.without_doubtful(0.5))


@pytest.mark.parametrize("wrong", [{"deep": math.inf}, {"mood": 1.0}])
def test_tables_with_other_keys_or_without_numbers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError) as caught:
        Calibration(CHANGE_WEIGHTS, INSTANCE_WEIGHTS | wrong)
    assert caught.value.field == "instances"
    with pytest.raises(OptionError, match="strength"):
        Calibration(CHANGE_WEIGHTS, INSTANCE_WEIGHTS, strength=0.6)
    missing = {key: value for key, value in CHANGE_WEIGHTS.items() if key != "growth"}
    with pytest.raises(OptionError, match="growth"):
        Calibration(missing, INSTANCE_WEIGHTS)
