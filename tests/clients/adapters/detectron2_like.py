"""`Instances`, `Boxes`, `BitMasks`, `PolygonMasks` and `ROIMasks` as Detectron2's documentation describes them.

Detectron2 is not on a package registry, so that no test environment has it. Written from its API reference (module
`detectron2.structures`), not from its code; only what an adapter may touch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class Boxes:
    """`tensor`: float32 [N, 4], x0, y0, x1, y1 in px."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = torch.as_tensor(tensor, dtype=torch.float32).reshape(-1, 4)

    def __len__(self) -> int:
        return len(self.tensor)


class BitMasks:
    """`tensor`: bool [N, H, W]."""

    def __init__(self, tensor: torch.Tensor) -> None:
        tensor = torch.as_tensor(tensor, dtype=torch.bool)
        assert tensor.dim() == 3
        self.tensor = tensor

    def __len__(self) -> int:
        return len(self.tensor)


class ROIMasks(BitMasks):
    """`tensor`: masks of the boxes [N, h, w], not yet of the image."""


class PolygonMasks:
    """`polygons`: for each instance a list of flat float64 arrays, 6 numbers or more each."""

    def __init__(self, polygons: list[list[Any]]) -> None:
        self.polygons = [[np.asarray(part, np.float64) for part in parts] for parts in polygons]
        assert all(len(part) % 2 == 0 and len(part) >= 6 for parts in self.polygons for part in parts)

    def __len__(self) -> int:
        return len(self.polygons)


class Instances:
    """Fields of equal length about one image; `image_size` is (height, width)."""

    def __init__(self, image_size: tuple[int, int], **fields: Any) -> None:
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in fields.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        return self._image_size

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self.set(name, value)

    def __getattr__(self, name: str) -> Any:
        if name == "_fields" or name not in self._fields:
            raise AttributeError(name)
        return self._fields[name]

    def set(self, name: str, value: Any) -> None:
        assert not self._fields or len(value) == len(self)
        self._fields[name] = value

    def has(self, name: str) -> bool:
        return name in self._fields

    def get_fields(self) -> dict[str, Any]:
        return self._fields

    def __len__(self) -> int:
        return len(next(iter(self._fields.values())))
