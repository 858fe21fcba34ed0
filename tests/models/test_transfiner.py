"""Mask Transfiner: its parts, what it learns in a minute, and its graph."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the train extra")

from disks import disks  # noqa: E402
from torch.nn import functional  # noqa: E402

from maskmend.models.architectures import build_network, load_network  # noqa: E402
from maskmend.models.export import MarginNetwork, count_macs, sample_patches  # noqa: E402
from maskmend.models.quadtree_ops import propagate, write_cells  # noqa: E402
from maskmend.models.training.grow import take_trunk  # noqa: E402
from maskmend.models.transfiner import Transfiner  # noqa: E402
from maskmend.models.transfiner_losses import losses  # noqa: E402
from maskmend.models.transfiner_tokens import CUES, Layer  # noqa: E402
from maskmend.models.zoo import resolve_weights  # noqa: E402
from maskmend.patcher.errors import OptionError  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:Constant folding"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

SMALL = {"detail": 4, "widths": (8, 8, 16), "context": 8, "k": (24, 40, 56), "dim": 16, "heads": 2}
FEW = (48, 96, 160)
VARIANTS: list[dict[str, object]] = [
    {},
    {"detector": "code"},
    {"regions": "boundary"},
    {"regions": "full", "k": (784, 64)},
    {"joint": False, "reference": False, "upsample": "bilinear"},
    {"depth": 0, "propagation": "leaves", "k": (60,)},
]


def small(**changes: object) -> Transfiner:
    torch.manual_seed(0)
    network = Transfiner(**(SMALL | changes)).eval()
    # The decoder of a new network says nothing, and one could not see what it would have done.
    torch.nn.init.normal_(network.decoder[-1].weight)
    return network


def iou(mask: torch.Tensor, true: torch.Tensor) -> float:
    pairs = (mask & true).flatten(1).sum(1) / (mask | true).flatten(1).sum(1)
    return float(pairs.mean())


@torch.no_grad()
def refined(network: Transfiner, inputs: torch.Tensor) -> torch.Tensor:
    parts = [MarginNetwork(network, 224).eval()(part) for part in inputs.split(4)]
    return torch.cat(parts).unsqueeze(1) > 0


@pytest.fixture(scope="module")
def trained() -> tuple[Transfiner, list[float]]:
    """The default network after twenty-five steps on a trained trunk, and its loss at each."""
    torch.manual_seed(0)
    network = Transfiner()
    take_trunk(network, "bpr-small")
    network.train()
    network.trunk.requires_grad_(False).eval()
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    values = []
    for step in range(25):
        inputs, target = disks(6, step)
        value = losses(network.forward_train(inputs, target, k=FEW), target).total()
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        values.append(float(value.detach()))
    return network.eval(), values


def test_few_steps_lower_the_loss_and_beat_the_coarse_masks(trained: tuple[Transfiner, list[float]]) -> None:
    network, values = trained
    assert np.mean(values[-4:]) < 0.6 * np.mean(values[:4])
    inputs, target = disks(12, 999)
    before, after = iou(inputs[:, 3:] > 0, target > 0), iou(refined(network, inputs), target > 0)
    assert after > before + 0.03


def test_the_default_network_is_as_light_as_said() -> None:
    network = build_network("transfiner")
    assert sum(p.numel() for p in network.parameters()) < 4e6
    assert count_macs(network, 224) < 1.4e9


def test_all_multiply_accumulates_are_counted() -> None:
    class OneLayer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.layer = torch.nn.Conv2d(4, 8, 2, 2), Layer(8, 2, 24)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.first(x).flatten(2).transpose(1, 2)
            return self.layer(tokens, torch.zeros(1, 1, 1, 16), 4)

    projections = 16 * 8 * 16 + 2 * 12 * 8 * 8
    assert count_macs(OneLayer(), 8) == 16 * 8 * 16 + projections + 2 * 12 * 16 * 8 + 2 * 12 * 8 * 24


@pytest.mark.parametrize("changes", VARIANTS)
def test_every_form_gives_logits_and_learns(changes: dict[str, object]) -> None:
    network = small(**changes)
    inputs, target = disks(2, 0)
    with torch.no_grad():
        logits = network(inputs)
    assert logits.shape == (2, 1, 224, 224)
    assert torch.isfinite(logits).all()
    losses(network.train().forward_train(inputs, target), target).total().backward()
    # With one level or the leaves alone, the others' features have nothing to do.
    idle = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    unused = ["trunk.context"] if network.reference is None else []
    unused += [f"trunk.{part}.{level - 1}" for part in ("lateral", "decoder") for level in range(len(network.k), 3)]
    assert not {name for name in idle if not name.startswith(tuple(unused) or ("none",))}


@pytest.mark.parametrize("reference", [True, False])
def test_without_nodes_the_coarse_mask_comes_out(reference: bool) -> None:
    network = small(threshold=0.9999, reference=reference)
    inputs, _ = disks(2, 1)
    with torch.no_grad():
        assert not any(nodes.valid.any() for nodes in network.forward_train(inputs).nodes)
        assert torch.equal(network(inputs), 4 * inputs[:, 3:])


def test_at_first_a_node_is_what_its_features_alone_say() -> None:
    torch.manual_seed(0)
    network = Transfiner(**(SMALL | {"regions": "boundary"})).eval()
    inputs, _ = disks(1, 1)
    with torch.no_grad():
        found = network.forward_train(inputs)
        for level, nodes in enumerate(found.nodes):
            alone = found.dense[level].flatten(1).gather(1, nodes.index)
            assert nodes.valid.any()
            assert torch.equal(found.logits[level], alone)
            coarse = 4 * functional.avg_pool2d(inputs[:, 3:], 224 // nodes.side).flatten(1).gather(1, nodes.index)
            assert torch.allclose(found.changes[level], alone - coarse, atol=1e-6)


def test_for_a_mask_of_28_cells_it_is_the_propagation_of_the_paper() -> None:
    network = small(regions="boundary", k=(90, 200, 300))
    inputs, _ = disks(2, 12)
    blocks = functional.avg_pool2d(inputs[:, 3:], 8).sign()
    blocks = torch.where(blocks == 0, 1.0, blocks)
    inputs[:, 3:] = functional.interpolate(blocks, scale_factor=8.0)
    with torch.no_grad():
        found = network.forward_train(inputs)
        wanted = propagate(4 * blocks, found.nodes, found.logits, 112, mode="nearest", inner=True)
        assert all(nodes.valid.any() for nodes in found.nodes)
        assert (wanted != 4 * functional.interpolate(blocks, scale_factor=4.0)).any()
        assert torch.allclose(found.coarse + network.propagated(found), wanted, atol=1e-5)


def test_slots_left_over_change_nothing() -> None:
    inputs, _ = disks(2, 2)
    few, many = (small(regions="boundary", k=k) for k in ((90, 220, 440), (120, 300, 500)))
    with torch.no_grad():
        assert all(not nodes.valid.all(1).any() for nodes in few.forward_train(inputs).nodes)
        assert torch.allclose(few(inputs), many(inputs), atol=1e-5)


def test_nodes_are_overwritten_at_all_levels_or_at_the_last_alone() -> None:
    inputs, _ = disks(1, 3)
    both, leaves = small(regions="boundary"), small(regions="boundary", propagation="leaves")
    with torch.no_grad():
        found = both.forward_train(inputs)
        last = found.nodes[-1]
        touched = torch.zeros(112 * 112, dtype=torch.bool)
        touched[last.index[0][last.valid[0]]] = True
        changed = (leaves.propagated(leaves.forward_train(inputs)) != 0).flatten()
        assert changed.any()
        assert not (changed & ~touched).any()
        assert (both.propagated(found) != 0).sum() > changed.sum()


def test_cues_are_what_a_node_knows() -> None:
    inputs = torch.zeros(1, 4, 224, 224)

    def logits(cues: tuple[str, ...], mask: float = 1.0) -> torch.Tensor:
        network = small(regions="full", k=(784,), depth=0, cues=cues)
        # Only the mask's own way into a node is left.
        torch.nn.init.zeros_(network.trunk.stem[0].weight[:, 3:])
        torch.nn.init.zeros_(network.trunk.context.near[0].weight[:, 3:])
        inputs[:, 3] = mask
        with torch.no_grad():
            found = network.forward_train(inputs)
        order = found.nodes[0].index[0].argsort()
        return found.logits[0][0][order].reshape(28, 28)[8:20, 8:20]

    for cues in (("feature",), ("mask",), ("context",), ("feature", "mask", "context")):
        assert logits(cues).std() < 1e-5, "nodes that see the same differ"
    assert logits(("feature", "position")).std() > 1e-3
    assert not torch.allclose(logits(("mask",)), logits(("mask",), -1.0))
    assert torch.allclose(logits(("feature", "context")), logits(("feature", "context"), -1.0))


def test_levels_see_each_other_when_joint() -> None:
    inputs, _ = disks(1, 4)
    for joint in (True, False):
        network = small(regions="boundary", joint=joint)
        with torch.no_grad():
            one, other = (network.forward_train(inputs, k=(24, 40, k)).logits[0] for k in (56, 8))
        assert torch.allclose(one, other, atol=1e-6) is not joint


def test_true_cells_are_taken_before_detectors_find_any() -> None:
    network = small(threshold=0.9999, k=(300, 700, 1200))
    for finer in network.detectors.finer:
        # Their features have learned nothing, and some are large.
        torch.nn.init.zeros_(finer.weight[:, :-1])
    inputs, target = disks(2, 5)
    for closed in (False, True):
        with torch.no_grad():
            found = network.forward_train(inputs, target, closed=closed)
        for level, (nodes, truth) in enumerate(zip(found.nodes, found.truth, strict=True)):
            on = truth.flatten(1).gather(1, nodes.index)
            assert torch.equal(on & nodes.valid, nodes.valid)
            if closed or not level:
                # None of them is lost for want of a parent or of room.
                assert torch.equal(nodes.valid.sum(1), truth.flatten(1).sum(1))


def test_nothing_is_learned_where_the_target_is_unsure() -> None:
    network = small().train()
    inputs, target = disks(2, 6)
    unsure = torch.full_like(target, 2)
    assert all(float(part.detach()) == 0 for part in losses(network.forward_train(inputs, unsure), unsure))
    half = target.clone()
    half[:, :, :, :112] = 2
    found = network.forward_train(inputs, half)
    wrong = [logit.clone() for logit in found.logits]
    for logit, nodes in zip(wrong, found.nodes, strict=True):
        logit[nodes.column < nodes.side // 2] = 1e3
    spoiled = found._replace(logits=wrong)
    assert torch.equal(losses(found, half).refine, losses(spoiled, half).refine)


def test_perfect_nodes_cost_nothing() -> None:
    network = small(regions="boundary")
    inputs, target = disks(2, 7)
    found = network.forward_train(inputs, target)
    logits = []
    for nodes in found.nodes:
        share = functional.avg_pool2d(target.float(), 224 // nodes.side).flatten(1).gather(1, nodes.index)
        logits.append(torch.logit(share, eps=1e-7))
    assert losses(found._replace(logits=logits), target).refine < 1e-5


@pytest.mark.parametrize(
    "wrong",
    [
        {"detector": "best"},
        {"regions": "edges"},
        {"upsample": "cubic"},
        {"propagation": "none"},
        {"k": ()},
        {"k": (0,)},
        {"cues": ("position",)},
        {"cues": (*CUES, "smell")},
        {"threshold": 1.0},
        {"dim": 30},
        {"widths": (8, 8)},
    ],
)
def test_unusable_options_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError) as caught:
        Transfiner(**wrong)
    assert caught.value.field == next(iter(wrong))


def export(network: Transfiner, folder: Path) -> Path:
    pytest.importorskip("onnx", reason="exporting needs the train extra")
    torch.onnx.export(
        MarginNetwork(network, 224).eval(),
        (sample_patches(2, 224),),
        str(folder / "network.onnx"),
        input_names=["patches"],
        output_names=["logits"],
        dynamic_axes={"patches": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    return folder / "network.onnx"


def openvino_logits(path: Path, patches: torch.Tensor) -> np.ndarray:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    from maskmend.models.runtimes.openvino import _core

    graph = openvino.convert_model(str(path))
    graph.reshape(list(patches.shape))
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return _core().compile_model(graph, "CPU", options)([patches.numpy()])[0]


@torch.no_grad()
def decided(network: Transfiner, inputs: torch.Tensor) -> np.ndarray:
    """Crops whose nodes do not hang on a score that is nearer than rounding to the limit: bool [B]."""
    found, sure = network.forward_train(inputs), torch.ones(len(inputs), dtype=torch.bool)
    for level, scores in enumerate(found.maps if network.cascade else []):
        if level:
            parent = found.nodes[level - 1]
            kept = torch.zeros_like(found.maps[level - 1], dtype=torch.int64)
            kept = write_cells(kept, parent, parent.valid.long())
            scores = torch.where(kept.repeat_interleave(2, 2).repeat_interleave(2, 3) > 0, scores, -1e9)
        ordered = scores.flatten(1).sort(1, descending=True).values
        limit = math.log(network.thresholds[level] / (1 - network.thresholds[level]))
        k = network.k[level]
        rounding = 2e-6 * float(found.maps[level].abs().max())
        sure &= (ordered - limit).abs().amin(1) > rounding
        sure &= (ordered[:, k - 1] - ordered[:, k] > rounding) | (ordered[:, k] < limit)
    return sure.numpy()


@pytest.mark.parametrize("changes", VARIANTS)
def test_runtimes_agree_on_every_form(tmp_path: Path, changes: dict[str, object]) -> None:
    network = small(**changes)
    if network.detectors is not None:
        # A detector that has learned nothing finds next to nothing.
        torch.nn.init.constant_(network.detectors.coarsest[-1].bias, 2.0)
    compare(network, tmp_path, 8)


def test_runtimes_agree_on_the_shipped_weights(tmp_path: Path) -> None:
    network = load_network(resolve_weights("transfiner-small"))
    assert isinstance(network, Transfiner)
    compare(network, tmp_path, 9)


@torch.no_grad()
def compare(network: Transfiner, folder: Path, seed: int) -> None:
    """PyTorch, ONNX Runtime and OpenVINO on crops that have nodes."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = export(network, folder)
    inputs, _ = disks(6, seed)
    wanted = MarginNetwork(network, 224)(inputs).numpy()
    sure = decided(network, inputs)
    assert sure.sum() >= 3
    assert all(nodes.valid.any(1).all() for nodes in network.forward_train(inputs).nodes)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for got in (session.run(["logits"], {"patches": inputs.numpy()})[0], openvino_logits(path, inputs)):
        assert np.abs(got - wanted)[sure].max() <= 1e-4


def test_a_crop_comes_out_the_same_in_any_company(tmp_path: Path, trained: tuple[Transfiner, list[float]]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = export(trained[0], tmp_path)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(patches: torch.Tensor) -> np.ndarray:
        return session.run(["logits"], {"patches": patches.numpy()})[0]

    inputs, _ = disks(8, 10)
    others, _ = disks(8, 11)
    together = run(inputs[:5])
    for place in range(5):
        company = others[:5].clone()
        company[(place + 2) % 5] = inputs[place]
        assert np.array_equal(run(company)[(place + 2) % 5], together[place])
        assert np.abs(run(inputs[place : place + 1])[0] - together[place]).max() <= 1e-4
