from __future__ import annotations

import hashlib
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="importing checkpoints needs the train extra")

from safetensors.torch import load_file  # noqa: E402

from maskmend.models import load_refiner, resolve_weights  # noqa: E402
from maskmend.models.export import sample_patches  # noqa: E402
from maskmend.models.hrnet import hrnet_w18_small  # noqa: E402
from maskmend.models.importer import import_checkpoint  # noqa: E402
from maskmend.patcher.errors import OptionError, WeightsError  # noqa: E402


def official_network() -> torch.nn.Module:
    torch.manual_seed(3)
    return hrnet_w18_small().eval()


def official_looking(prefix: str = "") -> dict[str, dict[str, object]]:
    state = OrderedDict((prefix + key, value) for key, value in official_network().state_dict().items())
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
    digest = hashlib.sha256((tmp_path / "bpr.pth").read_bytes()).hexdigest()
    assert digest in weights.manifest.source
    assert digest in weights.card_path.read_text()
    refiner = load_refiner(weights=tmp_path / "out" / "bpr-official.json", threads=1)
    patches = sample_patches(2, 128)
    with torch.no_grad():
        logits = torch.nn.functional.interpolate(
            official_network()(patches), size=(64, 64), mode="bilinear", align_corners=False
        )
    wanted = logits.softmax(1)[:, 1].numpy()
    assert np.abs(refiner.forward(patches.numpy()) - wanted).max() < 1e-5


def test_counts_of_seen_batches_may_be_missing_and_half_precision_is_widened(tmp_path: Path) -> None:
    state = {k: v.half() for k, v in official_network().state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    weights = import_checkpoint(tmp_path / "old.pth", tmp_path / "out", "old")
    assert weights.manifest.architecture == "hrnet_w18_small"
    stored = load_file(weights.safetensors_path)
    assert len(stored) == 873
    assert torch.equal(stored["backbone.conv1.weight"], state["backbone.conv1.weight"].float())


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["state_dict", "meta"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, zipped: bool, place: str) -> None:
    sign = tmp_path / "it-ran"
    checkpoint = official_looking()
    checkpoint[place]["a"] = _Bomb(sign)
    torch.save(checkpoint, tmp_path / "bad.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"(posix|nt)\.system.*run code.*If you trust"):
        import_checkpoint(tmp_path / "bad.pth", tmp_path / "out", "bad")
    assert not sign.exists()
    assert not (tmp_path / "out").exists()


def test_a_bare_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    sign = tmp_path / "it-ran"
    (tmp_path / "bad.pth").write_bytes(pickle.dumps({"state_dict": _Bomb(sign)}))
    with pytest.raises(WeightsError):
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


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04 not a zip", b"\x80\x02}q", b"<html>" * 200])
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "cut.pth").write_bytes(data)
    with pytest.raises(WeightsError, match=r"damaged|asks for"):
        import_checkpoint(tmp_path / "cut.pth", tmp_path / "out", "cut")


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    torch.save(official_looking(), tmp_path / "whole.pth")
    data = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match="damaged"):
        import_checkpoint(tmp_path / "cut.pth", tmp_path / "out", "cut")


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(WeightsError, match="cannot be read"):
            import_checkpoint(path, tmp_path / "out", "x")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: torch.zeros(64, 4, 3, 3),
        lambda t: t.to_sparse(),
        lambda t: t.to(torch.complex64),
        lambda t: t.to("meta"),
    ],
    ids=["shape", "sparse", "complex", "meta"],
)
def test_an_entry_of_another_kind_is_refused(tmp_path: Path, spoil) -> None:
    checkpoint = official_looking()
    name = "backbone.conv1.weight"
    checkpoint["state_dict"][name] = spoil(checkpoint["state_dict"][name])
    torch.save(checkpoint, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=re.escape(name)):
        import_checkpoint(tmp_path / "odd.pth", tmp_path / "out", "odd")


def test_something_else_than_a_state_dict_is_refused(tmp_path: Path) -> None:
    for content in ([1, 2], {"state_dict": []}, {"state_dict": {"a": 1}}, {}):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(WeightsError, match="no state_dict"):
            import_checkpoint(tmp_path / "x.pth", tmp_path / "out", "x")


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="name"):
        import_checkpoint(tmp_path / "x.pth", tmp_path, "../x")


def test_a_network_of_ours_with_official_names_is_not_taken_for_an_official_one(tmp_path: Path) -> None:
    from maskmend.models.architectures import build_network

    torch.save({"state_dict": build_network("hrnet_w12_slim").state_dict()}, tmp_path / "slim.pth")
    with pytest.raises(WeightsError, match="neither BPR's HRNet"):
        import_checkpoint(tmp_path / "slim.pth", tmp_path / "out", "slim")
