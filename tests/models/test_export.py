"""The graph and the files that a network becomes."""

from __future__ import annotations

import stat
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exporting needs the train extra")
onnx = pytest.importorskip("onnx", reason="exporting needs the train extra")

from maskmend.models.architectures import architectures, build_network  # noqa: E402
from maskmend.models.boundary_unet import BoundaryUnet  # noqa: E402
from maskmend.models.export import (  # noqa: E402
    MarginNetwork,
    check_parity,
    count_macs,
    export_onnx,
    margin,
    sample_patches,
    write_weights,
)
from maskmend.models.hrnet import hrnet_w18_small  # noqa: E402
from maskmend.models.runtimes import RUNTIMES, create_runtime  # noqa: E402
from maskmend.models.zoo import Weights, resolve_weights  # noqa: E402
from maskmend.patcher.errors import OptionError, WeightsError  # noqa: E402

TINY = {"detail": 4, "widths": [8], "blocks": [1]}


def tiny(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return BoundaryUnet(**TINY).eval()


def write(network: torch.nn.Module, folder: Path, **changes: object) -> Weights:
    given = {
        "name": "tiny",
        "architecture": "boundary_unet",
        "arguments": TINY,
        "input_size": 64,
        "padding": 0,
        "license": "Apache-2.0",
        "source": "random",
        "card": "# tiny\n",
    }
    return write_weights(network, folder, **(given | changes))


def test_margin_is_the_difference_of_two_classes_resized_like_an_image() -> None:
    logits = torch.randn((2, 2, 16, 16), generator=torch.Generator().manual_seed(0))
    got = margin(logits, 64).numpy()
    for one, pair in zip(got, logits.numpy(), strict=True):
        wanted = cv2.resize(pair[1] - pair[0], (64, 64), interpolation=cv2.INTER_LINEAR)
        assert np.abs(one - wanted).max() < 1e-5


def test_margin_of_one_channel_at_the_size_of_the_patch_is_itself() -> None:
    logits = torch.randn((2, 1, 64, 64))
    assert torch.equal(margin(logits, 64), logits[:, 0])


def test_margin_leaves_the_context_out() -> None:
    logits = torch.randn((2, 1, 80, 80))
    assert torch.equal(margin(logits, 64, 8), logits[:, 0, 8:72, 8:72])
    half = margin(torch.randn((1, 2, 40, 40)), 64, 8)
    assert half.shape == (1, 64, 64)


@pytest.mark.parametrize(("build", "size"), [(tiny, 64), (hrnet_w18_small, 64)])
def test_the_graph_is_plain_and_always_the_same(tmp_path: Path, build, size: int) -> None:
    torch.manual_seed(0)
    network = build().eval()
    for name in ("a.onnx", "b.onnx"):
        export_onnx(network, tmp_path / name, input_size=size)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model)
    sides = {}
    for value in (*model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        assert tensor.elem_type == onnx.TensorProto.FLOAT
        sides[value.name] = [d.dim_param or d.dim_value for d in tensor.shape.dim]
    assert sides == {"patches": ["batch", 4, size, size], "logits": ["batch", 64, 64]}
    operators = [node.op_type for node in model.graph.node]
    assert not {"Shape", "Gather", "If", "Loop"} & set(operators)
    # The stem's has the sum of two convolutions before it; every other one is part of its convolution.
    assert operators.count("BatchNormalization") <= 1


def test_another_graph_than_the_network_is_found(tmp_path: Path) -> None:
    export_onnx(tiny(), tmp_path / "tiny.onnx", input_size=64)
    sample = sample_patches(3, 64)
    assert check_parity(MarginNetwork(tiny()).eval(), tmp_path / "tiny.onnx", sample) <= 1e-4
    with pytest.raises(WeightsError, match="differs"):
        check_parity(MarginNetwork(tiny(1)).eval(), tmp_path / "tiny.onnx", sample)


class FixedBatch(torch.nn.Module):
    """Writes the batch it was traced with into the graph."""

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return patches[:, :1].reshape(int(patches.shape[0]), 1, 64, 64)


def test_a_batch_fixed_in_the_graph_is_found(tmp_path: Path) -> None:
    # ONNX Runtime says so in an exception of its own.
    with pytest.raises(Exception, match=r"(?i)reshape|shape|batch"):
        export_onnx(FixedBatch(), tmp_path / "fixed.onnx", input_size=64)


def test_four_files_are_written_and_others_may_read_them(tmp_path: Path) -> None:
    network = tiny()
    weights = write(network, tmp_path / "new" / "folder")
    assert sorted(file.name for file in weights.folder.iterdir()) == [
        "tiny.json",
        "tiny.md",
        "tiny.onnx",
        "tiny.safetensors",
    ]
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    for file in weights.folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    weights.verify()
    assert resolve_weights(weights.folder) == weights
    manifest = weights.manifest
    assert manifest.parameters == sum(p.numel() for p in network.parameters())
    assert manifest.gmac == round(count_macs(network, 64) / 1e9, 4)
    assert weights.card_path.read_text() == "# tiny\n"


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write(tiny(), tmp_path / name) for name in ("a", "b"))
    assert first.manifest == second.manifest


def test_unusable_weights_leave_the_ones_that_are_there(tmp_path: Path) -> None:
    write(tiny(), tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    spoiled, hidden = tiny(1), tiny(2)
    with torch.no_grad():
        spoiled.head[-1].bias.fill_(float("nan"))
        # Every value is finite here, and what comes out is not.
        hidden.stem[1].running_var.fill_(-1.0)
    for network in (spoiled, hidden):
        with pytest.raises(WeightsError, match="not finite"):
            write(network, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="name"):
        write(tiny(), tmp_path / "in", name="../out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_weights_with_context_give_the_middle_of_what_the_network_sees(tmp_path: Path, runtime: str) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(runtime, runtime), reason=f"{runtime} is not installed")
    network = tiny()
    weights = write(network, tmp_path, input_size=80, padding=8)
    patches = sample_patches(5, 80)
    with torch.no_grad():
        wanted = network(patches)[:, 0, 8:72, 8:72].numpy()
    got = create_runtime(runtime, weights, threads=1).run(patches.numpy())
    assert np.abs(got - wanted).max() <= 1e-4


def test_multiply_accumulates_are_counted_by_hand() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3, stride=2, padding=1), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 16, 1, groups=4)
    )
    assert count_macs(network, 8) == 4 * 4 * 8 * 4 * 9 + 4 * 4 * 16 * 2


def test_networks_are_built_by_name_and_wrong_arguments_are_named() -> None:
    with torch.device("meta"):
        for name in architectures():
            assert isinstance(build_network(name), torch.nn.Module)
    with pytest.raises(OptionError, match="resnet") as caught:
        build_network("resnet")
    assert caught.value.field == "architecture"
    for name in ("boundary_unet", "hrnet_w48"):
        with pytest.raises(OptionError, match="depth") as caught:
            build_network(name, depth=3)
        assert caught.value.field == "arguments"


def test_a_network_that_cuts_its_context_away_is_not_cut_again() -> None:
    from maskmend.models.boundary_unet import BoundaryUnet

    torch.manual_seed(3)
    network = BoundaryUnet(4, (8, 8, 8), (1, 1, 1), context=8, padding=16).eval()
    patches = torch.randn(2, 4, 96, 96)
    with torch.no_grad():
        logits = MarginNetwork(network, 64, 16)(patches)
        assert logits.shape == (2, 64, 64)
        assert torch.equal(logits, network(patches)[:, 0])
        far = patches.clone()
        far[:, :, :4] += 3
        assert not torch.equal(network(far), network(patches)), "the context is not looked at"
    with pytest.raises(WeightsError, match="padding"):
        MarginNetwork(network, 64, 0)
