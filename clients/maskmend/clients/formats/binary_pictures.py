"""Pictures of one mask each: written again in the kind they came in."""

from __future__ import annotations

import numpy as np

from maskmend.clients.formats.index_pictures import IndexPicture, read_indices, values_of, write_indices
from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskmendError
from maskmend.patcher.mask_images import write_mask


def rewritten(old: bytes, mask: Rle) -> bytes:
    """A PNG of a mask, foreground of the value that most of the old one's foreground has.

    Grey pictures stay grey, of 8 or 16 bits, and those with a palette keep it. Colours and alpha become grey of 0 and
    255, and so does what cannot be read.
    """
    try:
        picture = read_indices(old, field="mask")
    except MaskmendError:
        return write_mask(mask)
    values = [value for value in values_of(picture) if value]
    if not values:
        return write_mask(mask)
    palette = picture.palette
    # Where index 0 has a colour, all of the picture would read back as foreground.
    if palette is not None and palette[0].any():
        return write_mask(mask)
    value = max(values, key=lambda v: int(np.count_nonzero(picture.indices == v)))
    indices = mask.to_dense().astype(picture.indices.dtype) * np.asarray(value, picture.indices.dtype)
    return write_indices(IndexPicture(indices, picture.chunks))
