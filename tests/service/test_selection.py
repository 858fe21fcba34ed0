"""Patches chosen adaptively: fewer, believed by what they say, with masks that depend on nothing else."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from test_engine import OracleRefiner, real_case, scene

from maskmend.models import load_refiner
from maskmend.patcher import Rle
from maskmend.patcher.cover import covering_boxes
from maskmend.patcher.errors import OptionError
from maskmend.patcher.evidence import ADAPTIVE_CALIBRATION, CHANGE_WEIGHTS, INSTANCE_WEIGHTS, Calibration
from maskmend.patcher.guard import ALREADY_RIGHT, hold
from maskmend.patcher.metrics import iou
from maskmend.service import Engine, EngineOptions
from maskmend.service.options import Patches
from maskmend.service.proposal import Proposal
from maskmend.service.selection import AGAIN, EASED, FAR, MARGIN, Adaptive, Dense, selection_of

ADAPTIVE = EngineOptions(patches="adaptive")


def test_fewer_patches_reach_the_truth_as_well() -> None:
    image, truth, coarse = scene((300, 300))
    masks = [Rle.from_dense(coarse)]
    dense, adaptive = (
        Engine(OracleRefiner(truth), options).refine_image(image, masks)[0] for options in (EngineOptions(), ADAPTIVE)
    )
    assert iou(adaptive.mask.to_dense(), truth) > 0.995 > iou(coarse, truth)
    assert adaptive.patches < dense.patches


def test_a_mask_that_is_right_gets_one_sparse_look() -> None:
    image, truth, _ = scene()
    oracle = OracleRefiner(truth)
    result = Engine(oracle, ADAPTIVE).refine_image(image, [Rle.from_dense(truth)])[0]
    assert result.abstained == ALREADY_RIGHT
    assert sum(oracle.calls) == result.patches == len(covering_boxes(truth, margin=MARGIN))


def looked_at(options: EngineOptions) -> Proposal:
    """A mask that is off by 10 px on the left and by 2 px on the right."""
    image, truth, _ = scene()
    coarse = truth | np.roll(truth, -10, 1) | np.roll(truth, 2, 1)
    (work,) = Engine(OracleRefiner(truth), options).propose(image, {0: Rle.from_dense(coarse)})
    return work


def test_where_the_guard_is_sure_only_what_moved_far_is_looked_at_again() -> None:
    work = looked_at(ADAPTIVE)
    assert work.care == "sparse"
    assert len(work.votes) > 1
    assert work.votes[1][0][:, 2].max() < 200


def test_where_it_is_undecided_all_that_moved_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskmend.service.selection.UNDECIDED", (-1.0, 1.0))
    work = looked_at(ADAPTIVE)
    assert work.care == "closer"
    assert work.votes[1][0][:, 2].max() >= 200
    assert looked_at(EngineOptions(patches="adaptive", guard=False)).care == "sparse"


def test_one_patch_is_left_to_the_dense_way() -> None:
    image, _, _ = scene()
    rows, columns = np.indices(image.shape[:2])
    small = (rows - 100) ** 2 + (columns - 120) ** 2 < 10**2
    masks = [Rle.from_dense(np.roll(small, 3, 1))]
    dense, adaptive = (
        Engine(OracleRefiner(small), options).refine_image(image, masks) for options in (EngineOptions(), ADAPTIVE)
    )
    assert dense == adaptive


@pytest.fixture(scope="module")
def network() -> object:
    return load_refiner(weights="bpr-small", threads=1)


def test_a_result_depends_on_its_own_mask_alone_whatever_the_batch(network) -> None:
    image, masks = real_case()
    alone = EngineOptions(patches="adaptive", arbitrate=False)
    together = Engine(network, alone).refine_image(image, masks)
    assert any(result.changed_pixels for result in together)
    for batch in (1, 7):
        engine = Engine(network, alone, batch_size=batch)
        single = [engine.refine_image(image, [mask])[0] for mask in reversed(masks)]
        assert single[::-1] == together


def test_it_is_in_the_provenance(network) -> None:
    assert Engine(network, ADAPTIVE).provenance["patches"] == "adaptive"
    assert Engine(network).provenance["patches"] == "dense"


def test_patches_that_move_the_edge_are_not_held_back() -> None:
    selection = Adaptive(OracleRefiner(np.ones((4, 4), bool)), ADAPTIVE)
    known = np.full((3, 64, 64), -1, np.float32)
    known[:, :, :32] = 1
    probabilities = (known + 1) / 2
    probabilities[1, :, 32 : 32 + int(EASED)] = 0.9
    probabilities[2, 0, 32:36] = 0.9
    mask = Rle.from_dense(known[0] > 0)
    work = Proposal(0, mask, np.zeros((0, 4), np.int32), mask, mask)
    assert selection.strength(work, probabilities, known) == pytest.approx(0.15)
    work.care = "sparse"
    strength = selection.strength(work, probabilities, known)
    assert isinstance(strength, np.ndarray)
    assert strength.shape == (3, 1, 1)
    assert strength.dtype == np.float32
    assert strength.ravel().tolist() == [np.float32(0.15), 0.0, np.float32(0.15)]
    held = hold(probabilities, known, strength)
    for n in range(3):
        assert np.array_equal(
            held[n : n + 1], hold(probabilities[n : n + 1], known[n : n + 1], float(strength[n, 0, 0]))
        )


def test_the_guard_has_tables_of_its_own_for_sparse_looks_unless_the_weights_brought_some() -> None:
    oracle = OracleRefiner(np.ones((4, 4), bool))
    mask = Rle.from_dense(np.ones((4, 4), bool))
    work = Proposal(0, mask, np.zeros((0, 4), np.int32), mask, mask)
    for care, wanted in (
        ("plain", oracle.calibration),
        ("sparse", ADAPTIVE_CALIBRATION),
        ("closer", oracle.calibration),
    ):
        work.care = care  # type: ignore[assignment]
        assert selection_of(oracle, ADAPTIVE).tables(work).calibration == wanted
        assert selection_of(oracle, EngineOptions()).tables(work).calibration == oracle.calibration
    work.care = "sparse"
    oracle.calibration = Calibration(CHANGE_WEIGHTS, INSTANCE_WEIGHTS, 0.3)
    assert selection_of(oracle, ADAPTIVE).tables(work).calibration == oracle.calibration
    assert type(selection_of(oracle, EngineOptions())) is Dense


@pytest.mark.parametrize("name", ["transfiner", "refinemask", "sharpmask"])
def test_refiners_of_whole_instances_are_refused(name: str) -> None:
    oracle = OracleRefiner(np.ones((4, 4), bool))
    oracle.provenance["refiner"] = name
    with pytest.raises(OptionError, match=f"{name} looks at whole instances") as caught:
        Engine(oracle, ADAPTIVE)
    assert caught.value.field == "patches"
    Engine(oracle)


def test_options_that_mean_nothing_together_are_refused() -> None:
    with pytest.raises(OptionError, match=r"nms is 0\.55, which means nothing with patches adaptive") as caught:
        EngineOptions(nms=0.55, patches="adaptive")
    assert caught.value.field == "nms"
    with pytest.raises(OptionError, match="use dense or adaptive") as caught:
        EngineOptions(patches="sparse")  # type: ignore[arg-type]
    assert caught.value.field == "patches"
    assert get_args(Patches) == ("dense", "adaptive")
    assert FAR > AGAIN
