"""One pass over the instances of an image without leaving the device: crops, network, votes, reassembly.

The engine uses it in the place of its own where a refiner offers it (`NetworkRefiner.looks`). An image goes up once; each
pass sends masks and boxes up in one piece, and fetches probabilities and refined masks back in one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskmend.models.device_geometry import Region, blend, cut_patches, known_pixels, pack, to_side, unpack, votes_of
from maskmend.models.zoo import Manifest
from maskmend.patcher import Rle, _bits
from maskmend.patcher.crops import check_boxes
from maskmend.patcher.errors import OptionError, RuntimeUnavailableError
from maskmend.patcher.rle import region_bits

_ROOM = 2**28
"""Bytes that the resizing of one chunk of crops may take, at most."""
Look = tuple[Rle, NDArray[np.int32]]
"""A mask and where to look: boxes int32 [N, 4], N at least 1."""
Seen = tuple[NDArray[np.float32], Rle]
"""Probabilities float32 [N, side, side] of the boxes, and the refined mask."""


class DeviceNetwork(Protocol):
    """A network on a device; see `TorchCudaRuntime`."""

    device: torch.device
    most: int

    def logits(self, patches: Tensor) -> Tensor:
        """Logits float32 [N, P, P] of patches float32 [N, 4, S, S], both on the device."""


class DeviceLooks:
    """Passes over instances on the device of a network.

    Args:
        network: what runs there.
        manifest: of its weights.
    """

    def __init__(self, network: DeviceNetwork, manifest: Manifest) -> None:
        self._network, self._manifest = network, manifest
        self._pinned = network.device.type == "cuda"

    def on(self, image: NDArray[np.uint8]) -> Callable[[Sequence[Look], float | None], list[Seen]]:
        """`look` at one image, uint8 [H, W, 3], which goes up here."""
        return partial(self.look, self.upload(image))

    def upload(self, image: NDArray[np.uint8]) -> Tensor:
        """An image uint8 [H, W, 3] on the device.

        Raises:
            RuntimeUnavailableError: the device has too little memory for it.
        """
        # PyTorch warns of memory that it may not write, though it only reads here.
        own = np.ascontiguousarray(image) if image.flags.writeable else image.copy()
        with _room_needed(image.shape[0], image.shape[1]):
            return self._up(torch.from_numpy(own))

    @torch.inference_mode()
    def look(self, image: Tensor, looks: Sequence[Look], strength: float | None) -> list[Seen]:
        """Refine masks of one image once.

        Args:
            image: from `upload`.
            looks: masks and boxes.
            strength: of `hold`; None where nothing is held back.

        Returns:
            What was seen of each.

        Raises:
            OptionError: boxes are no squares of one size, or a probability is not from 0 to 1.
            RuntimeUnavailableError: the device has too little memory for this image.
        """
        height, width = image.shape[:2]
        with _room_needed(height, width):
            return self._look(image, looks, strength)

    def _look(self, image: Tensor, looks: Sequence[Look], strength: float | None) -> list[Seen]:
        height, width = image.shape[:2]
        sides = [check_boxes(boxes).side for _, boxes in looks]
        regions = [_region(mask, boxes, height, width) for mask, boxes in looks]
        bits, boxes = self._send(looks, regions)
        found, made = [], []
        for side, region, columns, squares in zip(sides, regions, bits, boxes, strict=True):
            mask = unpack(columns, region.height)
            probabilities = to_side(self._probabilities(image, mask, region, squares, side), side)
            known = None if strength is None else known_pixels(mask, region, squares, side)
            votes = votes_of(probabilities, known, strength or 0.0)
            found.append(probabilities)
            made.append(pack(blend(mask, region, squares, votes)))
        return self._fetch(found, made, looks, regions)

    def _probabilities(self, image: Tensor, mask: Tensor, region: Region, boxes: Tensor, side: int) -> Tensor:
        size, padding = self._manifest.input_size, self._manifest.padding
        room = max(1, _ROOM // (12 * (side + 2 * padding) * size))
        chunk = min(self._network.most, room)
        logits = [
            self._network.logits(cut_patches(image, mask, region, part, side=side, size=size, padding=padding))
            for part in boxes.split(chunk)
        ]
        return sigmoid(torch.cat(logits))

    def _send(self, looks: Sequence[Look], regions: Sequence[Region]) -> tuple[list[Tensor], list[Tensor]]:
        """Bit columns int64 [w, words] and boxes int64 [N, 4] of every look, sent up together."""
        parts: list[NDArray[Any]] = [
            region_bits(mask, region.x, region.y, region.width, region.height)
            for (mask, _), region in zip(looks, regions, strict=True)
        ]
        shapes = [part.shape for part in parts] + [boxes.shape for _, boxes in looks]
        flat = [part.view(np.int64).ravel() for part in parts] + [boxes.astype(np.int64).ravel() for _, boxes in looks]
        sent = self._up(torch.from_numpy(np.concatenate(flat)))
        pieces = [
            piece.reshape(shape) for piece, shape in zip(sent.split([len(part) for part in flat]), shapes, strict=True)
        ]
        return pieces[: len(looks)], pieces[len(looks) :]

    def _fetch(
        self, found: list[Tensor], made: list[Tensor], looks: Sequence[Look], regions: Sequence[Region]
    ) -> list[Seen]:
        """Bring probabilities and masks back together."""
        whole = torch.cat([part.contiguous().view(torch.uint8).reshape(-1) for part in [*made, *found]])
        here = torch.empty(whole.shape, dtype=torch.uint8, pin_memory=self._pinned)
        here.copy_(whole, non_blocking=True)
        if self._pinned:
            torch.cuda.current_stream(self._network.device).synchronize()
        # Pinned memory is dear, and the votes are kept until the guard has seen them.
        raw = here.numpy().copy() if self._pinned else here.numpy()
        results, at = [], 0
        masks: list[NDArray[Any]] = []
        for part in made:
            end = at + part.numel() * 8
            masks.append(raw[at:end].view(np.uint64).reshape(part.shape))
            at = end
        for part, bits, (mask, _), region in zip(found, masks, looks, regions, strict=True):
            end = at + part.numel() * 4
            probabilities = raw[at:end].view(np.float32).reshape(part.shape)
            at = end
            # A NaN makes both comparisons fail.
            if not (probabilities.min() >= 0.0 and probabilities.max() <= 1.0):
                raise OptionError(
                    "probabilities hold NaN or a value outside 0 to 1; check the weights", field="probabilities"
                )
            runs = _bits.read_runs(bits, mask.height, mask.width, region.x, region.y, region.height)
            results.append((probabilities, Rle(mask.height, mask.width, runs)))
        return results

    def _up(self, tensor: Tensor) -> Tensor:
        if self._pinned:
            tensor = tensor.pin_memory()
        return tensor.to(self._network.device, non_blocking=True)


@contextmanager
def _room_needed(height: int, width: int) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise RuntimeUnavailableError(
            f"the GPU has too little memory for an image of {width}x{height} px; free some, or refine it on the CPU",
            field="device",
        ) from error


def sigmoid(logits: Tensor) -> Tensor:
    """As `maskmend.models.refiner.sigmoid`, of float32 [...]; exponentials of two libraries may differ in the last bit."""
    small = torch.exp(-logits.abs())
    return torch.where(logits >= 0, torch.ones_like(small), small) / (1 + small)


def _region(mask: Rle, boxes: NDArray[np.int32], height: int, width: int) -> Region:
    """What can hold foreground afterwards: the object and the boxes, within the frame."""
    (x0, y0), (x1, y1) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    x, y, w, h = mask.bbox
    if w:
        x0, y0, x1, y1 = min(x0, x), min(y0, y), max(x1, x + w), max(y1, y + h)
    left, top = max(int(x0), 0), max(int(y0), 0)
    return Region(left, top, max(min(int(x1), width) - left, 0), max(min(int(y1), height) - top, 0))
