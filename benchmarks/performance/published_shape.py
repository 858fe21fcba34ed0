"""The steps of Boundary Patch Refinement as its authors published them, re-created: instance by instance, by way of files.

For each instance the photograph is read again, boundary pixels are found on the whole frame and boxes compared pairwise;
each patch is written as two PNG files, image and mask, and read again; the network takes one patch at a time; sums and
counts are whole frames. Written from the paper's description, in one process and with nothing slowed down on purpose: the
official code writes a third file per patch, for a ground truth, which is left out. The boxes are those of `boundary_boxes`.
A network that wants to see around its patch is given files of the patch with its context.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scenes import Scene

from maskmend.models.zoo import resolve_weights
from maskmend.patcher import Rle

PATCH = 64
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)
INPUT = 128


@dataclass(frozen=True)
class Network:
    """What refines one patch.

    Attributes:
        run: gives logits float32 [1, 64, 64] of one patch float32 [1, 4, 128, 128].
        padding: context around a patch, in px of the image.
    """

    run: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    padding: int


def eager_network(name: str, threads: int) -> Network:
    """A network in PyTorch's eager mode, fp32.

    Args:
        name: of shipped weights, or `hrnet_w18_small` for BPR's own network with random weights (for time only).
        threads: of PyTorch, in the whole process.

    Raises:
        ImportError: PyTorch is not installed.
    """
    import torch

    from maskmend.models.architectures import build_network, load_network
    from maskmend.models.export import MarginNetwork

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    padding = 0
    if name == "hrnet_w18_small":
        network = MarginNetwork(build_network(name), PATCH).eval()
    else:
        weights = resolve_weights(name)
        manifest = weights.manifest
        if (manifest.patch, manifest.input_size) != (PATCH, INPUT):
            raise SystemExit(f"{name} does not take patches of {PATCH} px as {INPUT} px, as BPR does; use bpr-small")
        padding = manifest.padding
        network = MarginNetwork(load_network(weights), PATCH, padding).eval()

    @torch.inference_mode()
    def run(patch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(network(torch.from_numpy(patch)).numpy())

    return Network(run, padding)


def tie_break(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.uint32]:
    """The order among pixels of equal score that `boundary_boxes` documents, so that both ways look at the same patches."""

    def finalise(word: NDArray[np.uint32]) -> NDArray[np.uint32]:
        word = (word ^ (word >> 16)) * np.uint32(0x85EBCA6B)
        word = (word ^ (word >> 13)) * np.uint32(0xC2B2AE35)
        return word ^ (word >> 16)

    return finalise((y * 65536 + x).astype(np.uint32) ^ finalise(np.array([0x27D4EB2F], np.uint32)))


def boxes_of(mask: NDArray[np.bool_], nms: float = 0.25) -> NDArray[np.int32]:
    """Boxes int32 [N, 4] along the boundary of a mask bool [H, W] with sides of 64 px or more."""
    height, width = mask.shape
    total = cv2.filter2D(
        mask.astype(np.float32), cv2.CV_32F, np.ones((3, 3), np.float32), borderType=cv2.BORDER_CONSTANT
    )
    score = np.minimum(total, 9 - total) / 4.5
    y, x = np.nonzero(score > 0)
    order = np.lexsort((tie_break(x, y), -score[y, x]))
    kept: list[int] = []
    while order.size:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        w = np.maximum(PATCH - np.abs(x[order] - x[best]), 0)
        h = np.maximum(PATCH - np.abs(y[order] - y[best]), 0)
        order = order[w * h / (2 * PATCH * PATCH - w * h) < nms]
    x0 = np.clip(x[kept] - PATCH // 2, 0, width - PATCH)
    y0 = np.clip(y[kept] - PATCH // 2, 0, height - PATCH)
    return np.stack([x0, y0, x0 + PATCH, y0 + PATCH], 1).astype(np.int32)


def refine_one(photograph: Path, coarse: Rle, network: Network, folder: Path) -> tuple[Rle, int]:
    """Refine one instance; gives its mask and the number of patches.

    Args:
        photograph: read for this instance alone.
        coarse: neither empty nor full.
        network: from `eager_network`.
        folder: where patches go; overwritten by the next instance.
    """
    image = cv2.imread(str(photograph), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise SystemExit(f"{photograph} cannot be read as an image")
    mask = coarse.to_dense()
    boxes = boxes_of(mask)
    # Outside the frame the image repeats its border and the mask is background, as for `extract_patches`.
    around = network.padding
    image = cv2.copyMakeBorder(image, around, around, around, around, cv2.BORDER_REPLICATE)
    cue = np.pad(mask.astype(np.uint8) * 255, around)
    for number, (x0, y0, x1, y1) in enumerate(boxes + np.array([0, 0, 2 * around, 2 * around])):
        cv2.imwrite(str(folder / f"{number}-image.png"), image[y0:y1, x0:x1])
        cv2.imwrite(str(folder / f"{number}-mask.png"), cue[y0:y1, x0:x1])
    total, count = np.zeros(mask.shape, np.float64), np.zeros(mask.shape, np.float64)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        logits = network.run(_patch(folder, number))[0]
        total[y0:y1, x0:x1] += 1 / (1 + np.exp(-logits.astype(np.float64)))
        count[y0:y1, x0:x1] += 1
    refined = np.where(count > 0, total / np.maximum(count, 1) > 0.5, mask)
    return Rle.from_dense(refined), len(boxes)


def _patch(folder: Path, number: int) -> NDArray[np.float32]:
    """One patch from its two files, resized and normalised: float32 [1, 4, 128, 128]."""
    image = cv2.imread(str(folder / f"{number}-image.png"), cv2.IMREAD_COLOR)
    mask = cv2.imread(str(folder / f"{number}-mask.png"), cv2.IMREAD_GRAYSCALE)
    colour = cv2.resize(image[:, :, ::-1].astype(np.float32), (INPUT, INPUT), interpolation=cv2.INTER_LINEAR)
    cue = cv2.resize((mask > 0).astype(np.float32), (INPUT, INPUT), interpolation=cv2.INTER_NEAREST)
    patch = np.empty((1, 4, INPUT, INPUT), np.float32)
    patch[0, :3] = ((colour - MEAN) / STD).transpose(2, 0, 1)
    patch[0, 3] = 2 * cue - 1
    return patch


def refine(scenes: list[Scene], network: Network, folder: Path) -> tuple[list[Rle], int]:
    """Refine every instance of every scene; gives the masks, in order, and the number of patches."""
    masks, patches = [], 0
    for scene in scenes:
        for coarse in scene.masks:
            refined, looked = refine_one(scene.photograph, coarse, network, folder)
            masks.append(refined)
            patches += looked
    return masks, patches
