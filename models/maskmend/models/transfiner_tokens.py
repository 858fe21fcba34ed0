"""Nodes of Mask Transfiner as tokens (section 3.3), and the layer in which they look at one another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskmend.models.quadtree_ops import Nodes, neighbourhoods, sine_table

CUES = ("feature", "mask", "position", "context")


class NodeEncoder(nn.Module):
    """What is known at the nodes of one level, as tokens.

    The lateral projection of the features is applied at nodes alone: the same values as over the whole map.

    Args:
        channels: of the features.
        dim: of a token.
        side: of the level in cells.
        cues: some of `CUES`.
    """

    def __init__(self, channels: int, dim: int, side: int, cues: Sequence[str]) -> None:
        super().__init__()
        self.channels, self.mask, self.position = channels, "mask" in cues, "position" in cues
        self.lateral = nn.Linear(channels, dim) if "feature" in cues else None
        self.context = nn.Linear(9 * channels, dim) if "context" in cues else None
        inputs = dim * ((self.lateral is not None) + (self.context is not None)) + self.mask
        self.fuse = nn.Linear(inputs, dim)
        self.register_buffer("places", sine_table(side, dim // 2), persistent=False)

    def forward(self, features: Tensor, coarse: Tensor, nodes: Nodes) -> Tensor:
        """Tokens, float32 [B, k, dim], of features [B, C, s, s] and the coarse mask [B, 1, s, s] as -1..1."""
        around = neighbourhoods(torch.cat([features, coarse], 1), nodes)
        centre, known = around[:, :, 4], []
        if self.lateral is not None:
            known.append(functional.relu(self.lateral(centre[..., : self.channels])))
        if self.mask:
            known.append(centre[..., self.channels :])
        if self.context is not None:
            known.append(functional.relu(self.context(around[..., : self.channels].flatten(2))))
        tokens = self.fuse(torch.cat(known, 2))
        if self.position:
            tokens = tokens + torch.cat([self.places[nodes.row], self.places[nodes.column]], 2)
        return tokens


class Layer(nn.Module):
    """One transformer layer, normalised before each part: it trains without a warm-up of its own.

    Args:
        dim: of a token.
        heads: of the attention.
        hidden: of the two-layer network after it.
    """

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.before, self.after = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.pair, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.feed = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim))

    def forward(self, tokens: Tensor, mask: Tensor, skip: int = 0) -> Tensor:
        """Map tokens [B, T, dim] to [B, T - skip, dim].

        Args:
            tokens: to look at.
            mask: added to the scores, float [B, 1, 1, T].
            skip: tokens at the front that are looked at but need no result.
        """
        kept = tokens[:, skip:]
        seen = functional.scaled_dot_product_attention(*self.project(tokens, skip), attn_mask=mask)
        kept = kept + self.out(seen.transpose(1, 2).reshape(-1, int(kept.shape[1]), self.dim))
        out: Tensor = kept + self.feed(self.after(kept))
        return out

    def project(self, tokens: Tensor, skip: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Of tokens, float32 [B, T, dim], by heads: queries [B, heads, T - skip, d], keys and values [B, heads, T, d]."""
        count, depth = int(tokens.shape[1]), self.dim // self.heads
        normal = self.before(tokens)
        query = self.query(normal[:, skip:]).reshape(-1, count - skip, self.heads, depth).transpose(1, 2)
        key, value = self.pair(normal).reshape(-1, count, 2, self.heads, depth).permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value
