"""RefineMask and SharpMask: their parts against plain reckoning, what they learn, and their graphs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the train extra")

from disks import disks  # noqa: E402
from torch.nn import functional  # noqa: E402

from maskmend.models.architectures import build_network, load_network  # noqa: E402
from maskmend.models.export import MarginNetwork, check_parity, export_onnx, sample_patches  # noqa: E402
from maskmend.models.instance_network import InstanceNetwork, at_full_size, cross_entropy, near_edge, off  # noqa: E402
from maskmend.models.refinemask import Fusion, RefineMask, Stage, boundary_region  # noqa: E402
from maskmend.models.sharpmask import Refinement, SharpMask  # noqa: E402
from maskmend.models.training.grow import take_trunk  # noqa: E402
from maskmend.models.zoo import resolve_weights  # noqa: E402
from maskmend.patcher.errors import OptionError  # noqa: E402

SMALL = {"detail": 4, "widths": (8, 8, 16), "context": 8}
VARIANTS: list[tuple[str, dict[str, object]]] = [
    ("refinemask", {"channels": 32}),
    ("refinemask", {"channels": 32, "blend": "hard"}),
    ("refinemask", {"channels": 32, "stages": 2}),
    ("sharpmask", {"channels": 16}),
    ("sharpmask", {"channels": 8, "schedule": "constant", "form": "split", "skips": "encoder"}),
]


def small(name: str, **changes: object) -> InstanceNetwork:
    """Untrained, but for what it would not do untrained: change something."""
    torch.manual_seed(0)
    network = build_network(name, **(SMALL | changes)).eval()
    assert isinstance(network, InstanceNetwork)
    for head in network.heads if isinstance(network, RefineMask) else [network.head]:
        torch.nn.init.normal_(head.weight, 0, 0.3)
    return network


@pytest.mark.parametrize("name", ["refinemask", "sharpmask"])
def test_a_new_network_changes_nothing(name: str) -> None:
    network = build_network(name).eval()
    assert isinstance(network, InstanceNetwork)
    inputs, _ = disks(1, 0)
    with torch.no_grad():
        assert torch.equal(network(inputs), 4 * inputs[:, 3:])


def test_where_next_to_nothing_changes_the_masks_own_pixels_stay() -> None:
    inputs, _ = disks(2, 13)
    mask = inputs[:, 3:]
    changes = torch.randn((2, 1, 112, 112), generator=torch.Generator().manual_seed(2))
    out = at_full_size(mask, changes)
    wide, coarse = (
        functional.interpolate(each, scale_factor=2.0, mode="bilinear")
        for each in (changes, 4 * functional.avg_pool2d(mask, 2))
    )
    little, much = wide.abs() <= 0.5, wide.abs() >= 1.5
    assert little.any()
    assert much.any()
    assert torch.allclose(out[little], (4 * mask + wide)[little], atol=1e-5)
    assert torch.allclose(out[much], (coarse + wide)[much], atol=1e-5)
    assert ((out > 0) == (mask > 0))[little].all()
    assert torch.equal(at_full_size(mask, torch.zeros_like(changes)), 4 * mask)


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_every_form_learns_and_nothing_where_the_target_is_unsure(name: str, changes: dict[str, object]) -> None:
    network = small(name, **changes).train()
    inputs, target = disks(2, 1)
    assert float(network.training_loss(inputs, torch.full_like(target, 2)).detach()) == 0
    network.training_loss(inputs, target).backward()
    idle = {part for part, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    # The trunk's decoder has no part in the paper's form of SharpMask.
    unused = ("trunk.lateral", "trunk.decoder") if changes.get("skips") == "encoder" else ()
    assert not {part for part in idle if not part.startswith(unused)}


@pytest.mark.parametrize("name", ["refinemask", "sharpmask"])
def test_few_steps_on_a_trained_trunk_beat_the_coarse_masks(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name)
    assert isinstance(network, InstanceNetwork)
    take_trunk(network, "bpr-small")
    network.trunk.requires_grad_(False)
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 4e-3)
    for step in range(16):
        inputs, target = disks(2, step)
        network.train()
        network.trunk.eval()
        loss = network.training_loss(inputs, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    inputs, target = disks(6, 999)
    with torch.no_grad():
        refined = MarginNetwork(network.eval(), 224)(inputs).unsqueeze(1) > 0
    ious = []
    for mask in (inputs[:, 3:] > 0, refined):
        both, either = ((part).flatten(1).sum(1) for part in (mask & (target > 0), mask | (target > 0)))
        ious.append(float((both / either).mean()))
    assert ious[1] > ious[0] + 0.01


@pytest.mark.filterwarnings("ignore:Constant folding", "ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_runtimes_agree_on_every_form(tmp_path: Path, name: str, changes: dict[str, object]) -> None:
    pytest.importorskip("onnx", reason="exporting needs the train extra")
    network = small(name, **changes)
    path = tmp_path / "network.onnx"
    export_onnx(network, path, input_size=224, patch=224 // network.cell)
    compare(network, path, sample_patches(3, 224))


@pytest.mark.parametrize("weights", ["refinemask-small", "sharpmask-small"])
def test_runtimes_agree_on_the_shipped_weights(weights: str) -> None:
    found = resolve_weights(weights)
    network = load_network(found)
    assert isinstance(network, InstanceNetwork)
    inputs, _ = disks(5, 21)
    compare(network, found.onnx_path, inputs)


def compare(network: InstanceNetwork, path: Path, sample: torch.Tensor) -> None:
    """PyTorch, ONNX Runtime and OpenVINO."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    module = MarginNetwork(network, 224 // network.cell)
    assert check_parity(module, path, sample) <= 1e-4
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    got = openvino.Core().compile_model(str(path), "CPU", options)([sample.numpy()])[0]
    with torch.no_grad():
        difference = np.abs(got - module(sample).numpy()).reshape(len(sample), -1).max(1)
    # Where a cell is within rounding of the edge, it is of the boundary here and not there.
    assert (np.median(difference) if network.chooses else difference.max()) <= 1e-4


def test_both_forms_of_a_refinement_module_are_one() -> None:
    torch.manual_seed(1)
    joined, split = (Refinement(6, 5, 4, 3, 2, form) for form in ("joined", "split"))
    split.load_state_dict(joined.state_dict())
    features, mask = torch.randn(2, 6, 9, 9), torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        assert torch.allclose(joined(features, mask), split(features, mask), atol=1e-5)
        assert joined(features, mask).shape == (2, 2, 18, 18)
        # Neither input is without effect.
        assert not torch.allclose(joined(features, mask), joined(features, -mask), atol=1e-3)
        assert not torch.allclose(joined(features, mask), joined(-features, mask), atol=1e-3)


def test_schedules_have_the_channels_of_the_paper_and_few_parameters() -> None:
    def channels(schedule: str) -> list[tuple[int, int]]:
        network = SharpMask(schedule=schedule)
        return [(module.k_mask, module.second.out_channels) for module in network.modules_]

    assert channels("halving") == [(32, 32), (16, 16), (8, 8), (4, 4)]
    assert channels("constant") == [(32, 32)] * 4
    for schedule in ("halving", "constant"):
        assert 0 < SharpMask(schedule=schedule).refinement_parameters() < 3e6


@pytest.mark.parametrize("width", [1, 2])
def test_the_boundary_region_is_that_of_the_convolution(width: int) -> None:
    side = 2 * width + 1
    kernel = torch.full((1, 1, side, side), -1.0)
    kernel[0, 0, width, width] = side * side - 1
    mask = torch.rand((3, 1, 20, 20), generator=torch.Generator().manual_seed(width)) > 0.9
    inner = slice(width, -width)
    for share in (0.0, 0.1):
        wanted = torch.zeros_like(mask)
        for one in (mask, ~mask):
            response = functional.conv2d(one.float(), kernel, padding=width)
            wanted |= response > share * side * side
        got = boundary_region(mask, width, share=share)
        # At the border of the map the convolution takes what lies outside for the other side; this does not.
        assert torch.equal(got[:, :, inner, inner], wanted[:, :, inner, inner])
    assert not boundary_region(torch.ones(1, 1, 8, 8, dtype=torch.bool), width).any()


def test_a_fusion_halves_the_channels_and_hands_both_masks_on() -> None:
    fusion = Fusion(16, 4).eval()
    masks = torch.rand(2, 2, 6, 6)
    with torch.no_grad():
        out = fusion(torch.randn(2, 16, 6, 6), torch.randn(2, 4, 6, 6), masks)
    assert out.shape == (2, 8, 12, 12)
    wide = functional.interpolate(masks, scale_factor=2.0, mode="bilinear", align_corners=False)
    assert torch.allclose(out[:, -2:], wide, atol=1e-6)


def test_a_finer_stage_counts_along_the_boundary_of_the_one_before() -> None:
    network = small("refinemask", channels=32, stages=2, blend="hard")
    assert isinstance(network, RefineMask)
    coarse = -4 * torch.ones(1, 1, 14, 14)
    coarse[:, :, 4:10, 4:10] = 4
    first = Stage(coarse, torch.full_like(coarse, 0.25))
    second = Stage(functional.interpolate(coarse, scale_factor=2.0), torch.full((1, 1, 28, 28), -1.0))
    change = network.compose([first, second])
    region = functional.interpolate(boundary_region(coarse > 0, 1).float(), scale_factor=2.0) > 0
    assert torch.equal(change, torch.where(region, -1.0, 0.25))
    assert 0 < region.float().mean() < 1


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("refinemask", {"stages": 5}),
        ("refinemask", {"blend": "mixed"}),
        ("refinemask", {"channels": 20}),
        ("sharpmask", {"schedule": "c"}),
        ("sharpmask", {"form": "other"}),
        ("sharpmask", {"skips": "both"}),
        ("sharpmask", {"channels": 4}),
        ("sharpmask", {"widths": (8, 16)}),
    ],
)
def test_unusable_options_are_named(name: str, wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError) as caught:
        build_network(name, **wrong)
    assert caught.value.field == next(iter(wrong))


def test_cross_entropy_counts_cells_near_the_edge_more_and_unsure_ones_not() -> None:
    target = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    target[:, :, :, 4:] = 1
    target[:, :, 0] = 2
    logits = torch.zeros(1, 1, 4, 4)
    near = near_edge(functional.avg_pool2d((target == 1).float(), 2))
    assert near[0, 0, 3].tolist() == [False, True, True, False]
    # One cell that is wrong, far from the edge or near it.
    losses = []
    for column in (0, 1):
        wrong = 20 * (functional.avg_pool2d((target == 1).float(), 2) * 2 - 1)
        wrong[0, 0, 2, column] = 20
        losses.append(float(cross_entropy(wrong, target)))
    assert losses[1] == pytest.approx(4 * losses[0], rel=1e-3)
    wrong = 20 * (functional.avg_pool2d((target == 1).float(), 2) * 2 - 1)
    wrong[0, 0, 0] = -wrong[0, 0, 0]
    assert float(cross_entropy(wrong, target)) < 1e-6
    assert float(cross_entropy(logits, target)) == pytest.approx(np.log(2), rel=1e-5)


def test_cells_where_the_coarse_mask_is_wrong_count_more_where_asked() -> None:
    target = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    target[:, :, :, 4:] = 1
    mask = torch.where(target == 1, 1.0, -1.0)
    mask[:, :, :, 2:4] = 1
    logits = torch.zeros(1, 1, 4, 4)
    share = functional.avg_pool2d((target == 1).float(), 2)
    assert off(mask, share)[0, 0, 0].tolist() == [0, 1, 0, 0]
    # All is equally uncertain, so that weights cancel out; and then only the column that is wrong is.
    assert float(cross_entropy(logits, target, mask=mask, wrong=2.0)) == pytest.approx(math.log(2))
    logits[:, :, :, [0, 2, 3]] = 20 * (2 * share - 1)[:, :, :, [0, 2, 3]]
    plain, more = (float(cross_entropy(logits, target, 0.0, mask=mask, wrong=wrong)) for wrong in (0.0, 2.0))
    assert plain == pytest.approx(math.log(2) / 4, rel=1e-4)
    assert more == pytest.approx(3 * math.log(2) / 6, rel=1e-4)


@pytest.mark.parametrize("name", ["refinemask", "sharpmask"])
def test_every_network_can_be_paid_for_mending(name: str) -> None:
    network = small(name).train()
    inputs, target = disks(2, 4)
    losses = [float(network.training_loss(inputs, target, wrong=wrong).detach()) for wrong in (0.0, 5.0)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
