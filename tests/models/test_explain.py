"""What is kept of one crop: the same as the network does, and attention that is really its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the train extra")

from little_transfiner import little, little_weights  # noqa: E402
from torch.nn import functional  # noqa: E402

import maskmend.models.explain as explaining  # noqa: E402
from maskmend.models.explain import Explanation, attention_weights, explain_crop, load_network  # noqa: E402
from maskmend.models.export import MarginNetwork  # noqa: E402
from maskmend.models.quadtree_ops import top_nodes  # noqa: E402
from maskmend.models.refiner import InstanceRefiner, sigmoid  # noqa: E402
from maskmend.models.runtimes import create_runtime  # noqa: E402
from maskmend.models.transfiner_tokens import Layer  # noqa: E402
from maskmend.models.zoo import Weights, resolve_weights  # noqa: E402
from maskmend.patcher.errors import OptionError, WeightsError  # noqa: E402

FORMS: list[dict[str, object]] = [
    {},
    {"regions": "boundary", "upsample": "bilinear"},
    {"joint": False},
    {"reference": False},
    {"propagation": "leaves"},
    {"k": (30,), "depth": 1},
]


def crop() -> np.ndarray:
    """A bright disk, the mask a little beside it."""
    y, x = np.mgrid[:224, :224]
    image = np.where(np.hypot(x - 110, y - 104) < 60, 1.0, -1.0) + 0.2 * np.random.default_rng(3).normal(
        size=(3, 224, 224)
    )
    mask = np.where(np.hypot(x - 116, y - 108) < 58, 1.0, -1.0)
    return np.concatenate([image, mask[None]]).astype(np.float32)


@pytest.fixture(scope="module")
def explained() -> Explanation:
    return explain_crop(little(), crop(), patch=224)


@pytest.mark.parametrize("skip", [0, 3])
def test_weights_times_values_are_what_the_fused_attention_gives(skip: int) -> None:
    torch.manual_seed(1)
    layer = Layer(24, 3, 48).eval()
    tokens = torch.randn(2, 11, 24)
    mask = torch.where(torch.rand(2, 1, 1, 11) < 0.3, -1e4, 0.0)
    with torch.no_grad():
        weights, values = attention_weights(layer, tokens, mask, skip)
        normal = layer.before(tokens)
        query = layer.query(normal[:, skip:]).reshape(2, -1, 3, 8).transpose(1, 2)
        key, value = (part.reshape(2, -1, 3, 8).transpose(1, 2) for part in layer.pair(normal).split(24, 2))
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        kept = tokens[:, skip:] + layer.out((weights @ values).transpose(1, 2).reshape(2, -1, 24))
        out = kept + layer.feed(layer.after(kept))
        assert weights.shape == (2, 3, 11 - skip, 11)
        assert torch.equal(values, value)
        assert torch.allclose(weights @ values, seen, atol=1e-6)
        assert torch.allclose(out, layer(tokens, mask, skip), atol=1e-5)
    assert not weights[(mask < 0).expand_as(weights)].any()


@pytest.mark.parametrize("form", FORMS)
def test_it_is_what_the_network_does(form: dict[str, object]) -> None:
    network = little(**form)
    found = explain_crop(network, crop(), patch=224)
    inputs = torch.from_numpy(np.stack([crop(), *np.zeros((3, 4, 224, 224), np.float32)]))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        train = network.forward_train(inputs)
        logits = (train.coarse + network.propagated(train))[0, 0].numpy()
        probability = sigmoid(MarginNetwork(network, 224).eval()(inputs)[0].numpy())
    torch.set_num_threads(threads)
    assert np.array_equal(found.maps[-1], sigmoid(logits))
    assert np.array_equal(found.probability, probability)
    assert len(found.maps) == len(found.levels) == len(network.k)
    for level, nodes, values, changes in zip(found.levels, train.nodes, train.logits, train.changes, strict=True):
        valid = nodes.valid[0]
        assert 0 < len(level.row) == int(valid.sum()) <= level.slots
        assert np.array_equal(level.row, nodes.row[0][valid])
        assert np.array_equal(level.column, nodes.column[0][valid])
        assert np.array_equal(level.logits, values[0][valid])
        assert np.array_equal(level.changes, changes[0][valid])


def test_nodes_are_the_best_cells_of_the_detectors_maps(explained: Explanation) -> None:
    network = little()
    with torch.no_grad():
        maps = network.forward_train(torch.from_numpy(crop()[None])).maps
    threshold = float(np.log(0.1 / 0.9))
    best = top_nodes([each[:, 0] for each in maps], network.k, [threshold] * 3)
    counts = [int(nodes.valid.sum()) for nodes in best]
    assert [len(level.row) for level in explained.levels] == counts
    assert [level.slots for level in explained.levels] == [24, 40, 56]
    assert [level.side for level in explained.levels] == [28, 56, 112]


def test_each_level_writes_its_nodes_over_the_map(explained: Explanation) -> None:
    coarse = np.log(explained.coarse / (1 - explained.coarse))
    before = np.zeros((112, 112))
    for level, values in zip(explained.levels, explained.maps, strict=True):
        size = 112 // level.side
        wanted = before.copy()
        for row, column, change in zip(level.row, level.column, level.changes, strict=True):
            wanted[size * row : size * (row + 1), size * column : size * (column + 1)] = change
        assert np.allclose(values, 1 / (1 + np.exp(-(coarse + wanted))), atol=1e-5)
        before = wanted


def test_leaves_alone_show_in_the_last_map_only() -> None:
    found = explain_crop(little(propagation="leaves"), crop(), patch=224)
    assert np.array_equal(found.maps[0], found.coarse)
    assert np.array_equal(found.maps[1], found.coarse)
    assert not np.array_equal(found.maps[2], found.coarse)


def test_rows_of_the_attention_sum_to_one(explained: Explanation) -> None:
    (attention,) = explained.attention
    count = sum(len(level.row) for level in explained.levels)
    assert attention.levels == (0, 1, 2)
    assert attention.reference == 196
    assert [each.shape for each in attention.weights] == [(2, 196 + count, 196 + count)] * 2 + [(2, count, 196 + count)]
    for each in attention.weights:
        assert np.allclose(each.sum(2), 1, atol=1e-5)
        assert each.min() >= 0


def test_a_look_is_the_mean_over_the_heads_of_the_nodes_own_row(explained: Explanation) -> None:
    (attention,) = explained.attention
    look = explained.look(1, 5)
    row = attention.weights[-1][:, len(explained.levels[0].row) + 5].mean(0)
    assert look.reference is not None
    assert look.reference.shape == (14, 14)
    assert np.array_equal(np.concatenate([look.reference.ravel(), *look.nodes]), row)
    assert [len(each) for each in look.nodes] == [len(level.row) for level in explained.levels]


@pytest.mark.parametrize(("level", "node"), [(0, 0), (2, 7)])
def test_the_rollout_is_the_product_of_all_layers(explained: Explanation, level: int, node: int) -> None:
    (attention,) = explained.attention
    total = attention.weights[0].shape[2]
    product = np.eye(total)
    for weights in attention.weights:
        mixed = np.eye(total)
        mixed[total - weights.shape[1] :] = (weights.mean(0) + np.eye(total)[total - weights.shape[1] :]) / 2
        product = mixed @ product
    place = 196 + sum(len(each.row) for each in explained.levels[:level]) + node
    look = explained.look(level, node, rollout=True)
    assert look.reference is not None
    got = np.concatenate([look.reference.ravel(), *look.nodes])
    assert np.allclose(got, product[place], atol=1e-6)
    assert got.sum() == pytest.approx(1, abs=1e-5)
    # Half of itself is kept in each of three layers.
    assert look.nodes[level][node] >= 0.125


def test_levels_that_are_kept_apart_do_not_look_at_each_other() -> None:
    found = explain_crop(little(joint=False), crop(), patch=224)
    assert [each.levels for each in found.attention] == [(0,), (1,), (2,)]
    for rollout in (False, True):
        look = found.look(1, 0, rollout=rollout)
        assert look.reference is not None
        assert not look.nodes[0].any()
        assert not look.nodes[2].any()
        assert look.reference.sum() + look.nodes[1].sum() == pytest.approx(1, abs=1e-5)


def test_without_reference_tokens_nodes_get_everything() -> None:
    look = explain_crop(little(reference=False), crop(), patch=224).look(0, 0)
    assert look.reference is None
    assert sum(each.sum() for each in look.nodes) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("why", ["no layers", "too many tokens"])
def test_where_there_is_no_attention_it_says_so(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "MOST_TOKENS", 100 if why == "too many tokens" else 4096)
    found = explain_crop(little(depth=0) if why == "no layers" else little(), crop(), patch=224)
    assert found.attention == ()
    with pytest.raises(OptionError, match="no attention"):
        found.look(0, 0)


@pytest.mark.parametrize("given", [crop()[None], crop().astype(np.float64), crop()[:, :112, :112]])
def test_other_crops_are_refused(given: np.ndarray) -> None:
    with pytest.raises(OptionError, match=r"\[4, 224, 224\]"):
        explain_crop(little(), given, patch=224)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return little_weights(tmp_path_factory.mktemp("weights"))


def test_weights_are_loaded_and_say_what_the_runtime_says(weights: Weights) -> None:
    found = explain_crop(load_network(weights), crop(), patch=224)
    refiner = InstanceRefiner(weights, create_runtime("torch", weights, threads=2))
    assert np.array_equal(found.probability, refiner.forward(crop()[None])[0])


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(WeightsError, match="transfiner"):
        load_network(resolve_weights("bpr-small"))


def test_damaged_or_unfitting_weights_are_refused(weights: Weights, tmp_path: Path) -> None:
    other = weights.manifest.model_copy(update={"arguments": {**weights.manifest.arguments, "dim": 32}})
    with pytest.raises(WeightsError, match="does not fit"):
        load_network(weights.model_copy(update={"manifest": other}))
    (tmp_path / "little.safetensors").write_bytes(weights.safetensors_path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="SHA-256"):
        load_network(weights.model_copy(update={"folder": tmp_path}))
