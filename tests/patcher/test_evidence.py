from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from dense_doors import columns_of, find_changes

from maskmend.patcher.errors import OptionError
from maskmend.patcher.evidence import (
    CHANGE_WEIGHTS,
    DEFAULT_CALIBRATION,
    INSTANCE_WEIGHTS,
    Calibration,
    Evidence,
    chances,
)
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


def test_strength_at_the_ends_of_its_range() -> None:
    for strength in (0.0, 0.5):
        assert Calibration(CHANGE_WEIGHTS, INSTANCE_WEIGHTS, strength=strength).strength == strength
    for strength in (-0.01, 0.51, math.nan):
        with pytest.raises(OptionError) as caught:
            Calibration(CHANGE_WEIGHTS, INSTANCE_WEIGHTS, strength=strength)
        assert caught.value.field == "strength"
    for value in (math.nan, -math.inf):
        with pytest.raises(OptionError) as caught:
            Calibration(CHANGE_WEIGHTS | {"growth": value}, INSTANCE_WEIGHTS)
        assert caught.value.field == "changes"


def test_odds_are_cut_off_where_they_would_overflow() -> None:
    found = chances(np.array([[60.0], [-60.0], [50.0], [-50.0], [49.0], [0.0]]), {"a": 1.0})
    assert found[0] == found[2] == 1 / (1 + math.exp(-50))
    assert found[1] == found[3] == 1 / (1 + math.exp(50))
    assert found[4] == 1 / (1 + math.exp(-49))
    assert found[5] == 0.5


def test_features_of_an_instance_in_numbers() -> None:
    found = evidence()
    grown, cut = found.changes.growth > 0, found.changes.growth < 0
    both = dict(zip(INSTANCE_WEIGHTS, found.instance_features(grown | cut), strict=True))
    assert both["constant"] == 1.0
    assert both["log area"] == pytest.approx(math.log(400))
    assert both["certainty"] == pytest.approx(0.8)
    one = dict(zip(INSTANCE_WEIGHTS, found.instance_features(cut), strict=True))
    assert one["log shift"] == pytest.approx(math.log(25 / found.edge))
    assert one["lean"] == 1.0
    # A change counts as deep from two pixels on.
    shallow = Evidence(found.before, found.after, replace(found.changes, depth=np.array([1.9, 2.0])), found.edge)
    deep = dict(zip(INSTANCE_WEIGHTS, shallow.instance_features(np.array([True, True])), strict=True))["deep"]
    assert deep == pytest.approx(found.changes.size[1] / 105)


def test_support_counts_only_so_far() -> None:
    found = evidence()
    loud = Evidence(found.before, found.after, replace(found.changes, support=np.array([9.0, -9.0])), found.edge)
    column = list(CHANGE_WEIGHTS).index("support")
    assert loud.change_features()[:, column].tolist() == [1.5, -1.5]


def test_only_the_doubtful_change_is_given_back() -> None:
    found = evidence()
    sure, doubtful = (n + 1 for n in np.argsort(-found.changes.growth))
    changes = replace(found.changes, certainty=np.where(found.changes.growth > 0, 0.95, -0.5))
    left = Evidence(found.before, found.after, changes, found.edge).without_doubtful(0.5)
    kept, before, after = (np.asarray(mask) for mask in (left, found.before, found.after))
    labels = found.changes.labels
    assert np.array_equal(kept[labels == sure], after[labels == sure])
    assert np.array_equal(kept[labels == doubtful], before[labels == doubtful])
    assert np.array_equal(kept[labels == 0], before[labels == 0])
    # What is left is judged by what was kept of the changes.
    own = found.instance_features(found.changes.growth > 0)
    assert found.chance(left) == pytest.approx(float(chances(own[None], INSTANCE_WEIGHTS)[0]))


def test_changes_of_nothing_have_features_too() -> None:
    before, after = np.zeros((2, 9, 9), np.uint8)
    after[4, 4] = 1
    half, image = np.full(1, 0.5, np.float32), np.zeros((9, 9, 3), np.uint8)
    changes = find_changes(before, after, distance_to_edge(after), half, half, image)
    found = Evidence(columns_of(before), columns_of(after), changes, 0)
    values = dict(zip(INSTANCE_WEIGHTS, found.instance_features(np.array([True])), strict=True))
    assert (values["log shift"], values["log area"]) == (0.0, 0.0)


def test_the_default_tables_in_numbers() -> None:
    # Results change with these numbers: whoever fits them anew writes them down here too.
    change = np.array([[1.0, math.log(80), math.log(5), 0.8, 0.1, 0.5, math.log(400), 1.0]])
    odds = -6.788 - 0.099 * math.log(80) - 0.553 * math.log(5) + 5.593 * 0.8 - 2.831 * 0.1 + 1.264 * 0.5
    odds += 0.538 * math.log(400) + 0.425
    assert DEFAULT_CALIBRATION.change_chances(change)[0] == pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-12)
    instance = np.array([[1.0, 0.5, 0.8, math.log(400), 0.3, 0.25]])
    odds = -5.351 + 0.143 * 0.5 + 8.041 * 0.8 + 0.064 * math.log(400) - 1.921 * 0.3 - 0.411 * 0.25
    assert DEFAULT_CALIBRATION.instance_chances(instance)[0] == pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-12)
    assert DEFAULT_CALIBRATION.strength == 0.15
