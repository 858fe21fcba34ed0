"""The inputs that campaigns have kept, through the readers as they run: compiled, and with everything else around."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("fastapi", reason="two of the readers are the service's")

HERE = Path(__file__).parent


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


targets, seeds, campaign = load("targets"), load("seeds"), load("campaign")


@pytest.mark.parametrize("name", targets.TARGETS)
def test_what_was_kept_is_taken_or_refused(name: str) -> None:
    inputs = campaign.kept(name)
    assert len(inputs) >= 20
    outcome = Counter(targets.TARGETS[name](data) for data in [*inputs, *seeds.seeds(name)])
    # Both ways out must really have been taken, or nothing was tested.
    assert outcome["taken"] >= 3, outcome
    assert outcome["refused"] >= 3, outcome


def test_corpora_are_small_and_of_the_targets_that_there_are() -> None:
    packed = sorted((HERE / "corpus").glob("*"))
    assert {path.name for path in packed} == {f"{name}.zip" for name in targets.TARGETS}
    assert set(campaign.NAMES) == set(targets.TARGETS)
    assert sum(path.stat().st_size for path in packed) < 300_000


def test_a_target_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an error of another kind nor a broken promise passes for a refusal."""
    data = seeds.seeds("rle")[0]
    monkeypatch.setattr(targets.Rle, "bbox", (0, 0, 10**6, 1))
    with pytest.raises(AssertionError, match="bounding box"):
        targets.rle(data)
    monkeypatch.setattr(targets.Rle, "from_coco", lambda *_: {}["nothing"])
    with pytest.raises(KeyError):
        targets.rle(data)
