"""What became of the records of a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from maskmend.clients.formats.base import MaskFile

Record = dict[str, Any]


@dataclass
class JobSummary:
    """What became of the records.

    Attributes:
        masks: the mask file, with refined masks in it.
        records: in the file.
        refined: went through the refiner, whether or not a pixel changed.
        changed: of these, how many came out different.
        abstained: of these, how many the guard kept as they were.
        crowds: crowd regions and whatever else is not to be refined, passed through untouched.
        errors: one entry per record that could not be refined, in order: index, id, image_id, code, message.
        instances: per refined record: index, image_id, changed_pixels, confidence, score, undone, abstained,
            max_displacement_px, and where it changed `coarse`, the mask as it came, as COCO RLE.
    """

    masks: MaskFile
    records: int = 0
    refined: int = 0
    changed: int = 0
    abstained: int = 0
    crowds: int = 0
    errors: list[Record] = field(default_factory=list)
    instances: list[Record] = field(default_factory=list)
