from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="importing checkpoints needs the train extra")

from maskmend.models import load_refiner, resolve_weights  # noqa: E402
from maskmend.models.hrnet import hrnet_w18_small  # noqa: E402
from maskmend.models.importer import import_checkpoint  # noqa: E402
from maskmend.patcher.errors import OptionError, WeightsError  # noqa: E402


def official_looking(prefix: str = "") -> dict[str, object]:
    torch.manual_seed(3)
    state = OrderedDict((prefix + key, value) for key, value in hrnet_w18_small().state_dict().items())
    meta = {"mmseg_version": "0.7.0", "config": "model = dict()", "CLASSES": ("bg", "fg"), "PALETTE": [[0, 0, 0]]}
    return {"meta": meta, "state_dict": state}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_an_official_checkpoint_becomes_weights(tmp_path: Path, prefix: str) -> None:
    torch.save(official_looking(prefix), tmp_path / "bpr.pth")
    weights = import_checkpoint(tmp_path / "bpr.pth", tmp_path / "out", "bpr-official")
    assert weights.manifest.architecture == "hrnet_w18_small"
    assert weights.manifest.input_size == 128
    assert weights.manifest.parameters == 3_935_278
    weights.verify()
    again = resolve_weights(tmp_path / "out")
    assert again.manifest == weights.manifest
    refiner = load_refiner(weights=tmp_path / "out" / "bpr-official.json", threads=1)
    assert refiner.forward(torch.zeros(1, 4, 128, 128).numpy()).shape == (1, 64, 64)


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    sign = tmp_path / "it-ran"
    torch.save({"state_dict": {"a": _Bomb(sign)}}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match="run code"):
        import_checkpoint(tmp_path / "bad.pth", tmp_path / "out", "bad")
    assert not sign.exists()


def test_nan_weights_are_refused(tmp_path: Path) -> None:
    checkpoint = official_looking()
    checkpoint["state_dict"]["backbone.conv1.weight"].fill_(float("nan"))
    torch.save(checkpoint, tmp_path / "nan.pth")
    with pytest.raises(WeightsError, match="not finite"):
        import_checkpoint(tmp_path / "nan.pth", tmp_path / "out", "nan")


def test_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"fc.weight": torch.zeros(2, 2)}}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="neither"):
        import_checkpoint(tmp_path / "other.pth", tmp_path / "out", "other")
    checkpoint = official_looking()
    del checkpoint["state_dict"]["backbone.bn1.weight"]
    torch.save(checkpoint, tmp_path / "short.pth")
    with pytest.raises(WeightsError, match=r"backbone\.bn1\.weight"):
        import_checkpoint(tmp_path / "short.pth", tmp_path / "out", "short")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(WeightsError, match="damaged"):
        import_checkpoint(tmp_path / "cut.pth", tmp_path / "out", "cut")


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="name"):
        import_checkpoint(tmp_path / "x.pth", tmp_path, "../x")


def test_a_pickle_is_not_read_as_weights(tmp_path: Path) -> None:
    (tmp_path / "bpr.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match="models import"):
        resolve_weights(tmp_path / "bpr.pth")
