"""What Mask Transfiner looked at in one crop and what it said: its nodes, the map after each level, its attention.

None of this leaves the exported graph, so it is asked of the PyTorch network, run as the `torch` runtime runs it: the
probabilities are the same, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskmend.models import architectures
from maskmend.models.export import margin
from maskmend.models.quadtree_ops import propagate
from maskmend.models.refiner import sigmoid
from maskmend.models.runtimes.pool import MICRO_BATCH, micro_batches
from maskmend.models.transfiner import COARSEST, FINEST, REFERENCE, Transfiner
from maskmend.models.transfiner_losses import Refined
from maskmend.models.transfiner_tokens import Layer
from maskmend.models.zoo import Weights
from maskmend.patcher.errors import OptionError, WeightsError

MOST_TOKENS: Final = 4096
"""Longest sequence whose attention is kept: it takes the square of this, for each layer and head."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class NodeLevel:
    """The nodes of one level, best first; slots left over are not among them.

    Attributes:
        side: of the level in cells over the crop.
        slots: nodes that the network has room for.
        row: int64 [n].
        column: int64 [n].
        logits: float32 [n], of foreground, as the network says.
        changes: float32 [n], these less what the coarse mask says.
    """

    side: int
    slots: int
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    logits: Floats
    changes: Floats

    @property
    def before(self) -> Floats:
        """Foreground probability of each node in the coarse mask, float32 [n]."""
        return sigmoid(self.logits - self.changes)

    @property
    def after(self) -> Floats:
        """Foreground probability of each node as the network says, float32 [n]."""
        return sigmoid(self.logits)


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """Who looks at whom in one sequence: the reference tokens first, then the nodes of its levels, coarse to fine.

    Attributes:
        levels: indices of the levels in it.
        reference: reference tokens in front, 196 or 0.
        weights: float32 [heads, Q, T] per layer; each row sums to 1. Q is T, but in the last layer T less `reference`:
            nobody asks what became of the reference tokens there.
    """

    levels: tuple[int, ...]
    reference: int
    weights: tuple[Floats, ...]


class Look(NamedTuple):
    """What one node looks at; everything together sums to 1.

    Attributes:
        reference: float32 [14, 14], share of each reference token; None for a network without them.
        nodes: float32 [n] per level; zeros for levels that are not in its sequence.
    """

    reference: Floats | None
    nodes: tuple[Floats, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """One crop.

    Attributes:
        levels: nodes, coarse to fine.
        coarse: float32 [112, 112], the coarse mask as the network takes it, as a probability.
        maps: float32 [112, 112] per level, foreground probability after it was written, before it is enlarged.
        probability: float32 [P, P], what a runtime gives for this crop.
        attention: one sequence, or one per level where the network keeps them apart; empty where it has no layers, or a
            sequence of more than `MOST_TOKENS`.
    """

    levels: tuple[NodeLevel, ...]
    coarse: Floats
    maps: tuple[Floats, ...]
    probability: Floats
    attention: tuple[Attention, ...]

    def look(self, level: int, node: int, *, rollout: bool = False) -> Look:
        """What a node looks at.

        Args:
            level: index of its level.
            node: its index there.
            rollout: through all layers, half of each token kept as it is (attention rollout, Abnar and Zuidema, 2020);
                otherwise in the last layer alone. Either way the mean over the heads.

        Raises:
            OptionError: there is no attention to show.
        """
        sequence = next((each for each in self.attention if level in each.levels), None)
        if sequence is None:
            raise OptionError("the network has no attention to show; leave it out", field="attention")
        counts = [len(self.levels[each].row) for each in sequence.levels]
        place = sum(counts[: sequence.levels.index(level)]) + node
        row = sequence.weights[-1][:, place].mean(0)
        if rollout:
            row = row / 2
            row[sequence.reference + place] += 0.5
            for weights in reversed(sequence.weights[:-1]):
                row = row / 2 + row @ weights.mean(0) / 2
        nodes = [np.zeros(len(each.row), np.float32) for each in self.levels]
        start = sequence.reference
        for each, count in zip(sequence.levels, counts, strict=True):
            nodes[each] = np.asarray(row[start : start + count], np.float32)
            start += count
        front = row[: sequence.reference].reshape(REFERENCE, REFERENCE) if sequence.reference else None
        return Look(front, tuple(nodes))


def load_network(weights: Weights) -> Transfiner:
    """The network of a set of weights, in evaluation mode.

    Raises:
        WeightsError: the file is missing, damaged, of another architecture than the manifest says, or not a transfiner.
    """
    manifest = weights.manifest
    if manifest.architecture != "transfiner":
        raise WeightsError(
            f"weights {manifest.name} are a {manifest.architecture[:64]}, which has no nodes; give those of a transfiner",
            field="weights",
        )
    found = architectures.load_network(weights)
    assert isinstance(found, Transfiner)
    return found


def explain_crop(network: Transfiner, crop: Floats, *, patch: int, padding: int = 0) -> Explanation:
    """Run a network on one crop and keep what it does on the way.

    Args:
        network: in evaluation mode.
        crop: float32 [4, 224, 224] of `extract_patches`.
        patch: side of a patch in px, as the manifest has it.
        padding: context around it in px, likewise.

    Raises:
        OptionError: the crop is of another shape or dtype.
    """
    if crop.dtype != np.float32 or crop.ndim != 3 or crop.shape != (4, 2 * FINEST, 2 * FINEST):
        raise OptionError(f"crop is {crop.dtype} {crop.shape}; give float32 [4, 224, 224]", field="crop")
    # In company and on a thread of its own as in a runtime, so that not even the last bits differ.
    inputs = micro_batches(crop[None], MICRO_BATCH)[0]
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as worker:
        explained: Explanation = worker.submit(_explain, network, inputs, patch, padding).result()
    return explained


def attention_weights(layer: Layer, tokens: Tensor, mask: Tensor, skip: int = 0) -> tuple[Tensor, Tensor]:
    """The weights that a layer's fused attention does not give away; arguments as those of `Layer.forward`.

    Returns:
        Weights [B, heads, T - skip, T], and the values [B, heads, T, dim / heads] that they are weights of.
    """
    query, key, value = layer.project(tokens, skip)
    scores = query @ key.transpose(-1, -2) / math.sqrt(layer.dim // layer.heads) + mask
    return scores.softmax(-1), value


@torch.inference_mode()
def _explain(network: Transfiner, inputs: Floats, patch: int, padding: int) -> Explanation:
    seen: list[tuple[Layer, tuple[Any, ...]]] = []
    hooks = [layer.register_forward_pre_hook(lambda one, given: seen.append((one, given))) for layer in network.layers]
    try:
        found = network.forward_train(torch.from_numpy(inputs))
    finally:
        for hook in hooks:
            hook.remove()
    levels = tuple(_level(found, number, slots) for number, slots in enumerate(network.k))
    maps = _maps(network, found)
    logits = margin(network.assemble(found), patch, padding)
    return Explanation(
        levels=levels,
        coarse=sigmoid(_plane(found.coarse)),
        maps=tuple(sigmoid(each) for each in maps),
        probability=sigmoid(logits[0].numpy()),
        attention=_attention(network, found, seen),
    )


def _level(found: Refined, number: int, slots: int) -> NodeLevel:
    nodes = found.nodes[number]
    valid = nodes.valid[0]
    row, column, logits, changes = (
        each[0][valid].numpy() for each in (nodes.row, nodes.column, found.logits[number], found.changes[number])
    )
    return NodeLevel(nodes.side, slots, row, column, logits, changes)


def _maps(network: Transfiner, found: Refined) -> list[Floats]:
    """Logits [112, 112] after each level: what `assemble` does, one level at a time."""
    none = found.coarse.new_zeros((found.coarse.shape[0], 1, COARSEST, COARSEST))
    inner = network.propagation == "all"
    maps = []
    for count in range(1, network.levels + 1):
        # Of a network that writes leaves alone, the coarser levels are never seen in the map.
        last = count if inner or count == network.levels else 0
        written = propagate(none, found.nodes[:last], found.changes[:last], FINEST, mode=network.upsample, inner=inner)
        maps.append(_plane(found.coarse + written))
    return maps


def _plane(values: Tensor) -> Floats:
    plane: Floats = values[0, 0].numpy()
    return plane


def _attention(
    network: Transfiner, found: Refined, seen: Sequence[tuple[Layer, tuple[Any, ...]]]
) -> tuple[Attention, ...]:
    depth = len(network.layers)
    if not depth or any(given[0].shape[1] > MOST_TOKENS for _, given in seen):
        return ()
    reference = REFERENCE**2 if network.reference is not None else 0
    every = tuple(range(network.levels))
    sequences = [every] if network.joint else [(level,) for level in every]
    made = []
    for number, levels in enumerate(sequences):
        valid = torch.cat([torch.ones(reference, dtype=torch.bool), *(found.nodes[n].valid[0] for n in levels)])
        weights = []
        for layer, (tokens, mask, *skip) in seen[number * depth : (number + 1) * depth]:
            given = attention_weights(layer, tokens[:1], mask[:1], *skip)[0][0]
            weights.append(given[:, valid[-given.shape[1] :]][:, :, valid].numpy())
        made.append(Attention(levels, reference, tuple(weights)))
    return tuple(made)
