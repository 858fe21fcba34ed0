"""What tests of mask formats have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy import ndimage

from maskmend.clients.formats import mask_format, open_masks
from maskmend.clients.formats.base import Instance, MaskFile, Policies
from maskmend.patcher import Rle
from maskmend.patcher.image_size import image_size

FIXTURES = Path(__file__).parent / "formats" / "fixtures"
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def eroded(mask: Rle) -> Rle:
    """A pixel less all round."""
    return Rle.from_dense(cv2.erode(mask.to_dense().view(np.uint8), CROSS, borderType=cv2.BORDER_CONSTANT))


def dilated(mask: Rle) -> Rle:
    """A pixel more all round."""
    return Rle.from_dense(cv2.dilate(mask.to_dense().view(np.uint8), CROSS))


def grown(mask: Rle) -> Rle:
    """A mask that is larger at one side, and has a second part."""
    dense = mask.to_dense()
    dense[2:-2, 2:-2] |= np.roll(dense, 2, 0)[2:-2, 2:-2]
    dense[10:14, 10:14] = True
    return Rle.from_dense(dense)


def farthest(one: np.ndarray, other: np.ndarray) -> float:
    """Farthest, in px, that a pixel of only one of two masks lies from the edge of the first."""
    differing = one != other
    inside, outside = ndimage.distance_transform_edt(one), ndimage.distance_transform_edt(~one)
    return float((inside + outside)[differing].max(initial=0))


@dataclass(frozen=True)
class RoundTrip:
    """A file before and after all its masks were changed, saved and read again."""

    before: list[Instance]
    after: list[Instance]
    old: list[Rle]
    wanted: list[Rle]
    got: list[Rle]
    saved: MaskFile


def masks_of(opened: MaskFile) -> list[Rle]:
    """All masks, at the size of their photographs."""
    found = []
    for number in range(len(opened.instances)):
        height, width = image_size(opened.photograph(number))
        found.append(opened.mask(number, height, width))
    return found


def round_trip(
    name: str,
    source: Path,
    photos: Path,
    target: Path,
    change: Callable[[Rle], Rle],
    policies: Policies | None = None,
) -> RoundTrip:
    """Open, change every instance that can be refined, save, open again. The format must be recognised each time."""
    policies = policies or Policies()
    opened = open_masks(source, photos, policies=policies)
    assert type(opened) is mask_format(name)
    old = masks_of(opened)
    wanted = list(old)
    for number, instance in enumerate(opened.instances):
        if instance.refinable:
            wanted[number] = change(old[number])
            opened.replace(number, wanted[number])
    before = list(opened.instances)
    opened.save(target)
    saved = open_masks(target, photos, policies=policies)
    assert type(saved) is mask_format(name)
    return RoundTrip(before, list(saved.instances), old, wanted, masks_of(saved), saved)


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
