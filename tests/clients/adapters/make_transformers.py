"""Make fixtures/transformers.json with the real library: Mask2Former's post-processing of made-up network outputs.

python tests/clients/adapters/make_transformers.py
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from transformers import Mask2FormerImageProcessor

FIXTURE = Path(__file__).parent / "fixtures" / "transformers.json"
SIZE = (30, 40)


def outputs() -> SimpleNamespace:
    """Logits of three queries: two overlapping blocks and one that nobody wants."""
    masks = torch.full((1, 3, 24, 32), -6.0)
    masks[0, 0, 2:15, 3:18] = 6
    masks[0, 1, 8:22, 10:30] = 5
    classes = torch.full((1, 3, 3), -4.0)
    classes[0, 0, 0], classes[0, 1, 1], classes[0, 2, 2] = 4, 4, 4
    return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)


def results() -> dict[str, Any]:
    """One result per way of asking."""
    processor = Mask2FormerImageProcessor()
    sizes = [SIZE]
    return {
        "instance": processor.post_process_instance_segmentation(outputs(), target_sizes=sizes)[0],
        "panoptic": processor.post_process_panoptic_segmentation(
            outputs(), target_sizes=sizes, label_ids_to_fuse=set()
        )[0],
        "binary maps": processor.post_process_instance_segmentation(
            outputs(), target_sizes=sizes, return_binary_maps=True
        )[0],
        "run lengths": processor.post_process_instance_segmentation(
            outputs(), target_sizes=sizes, return_coco_annotation=True
        )[0],
        "nothing": processor.post_process_instance_segmentation(outputs(), threshold=0.999999, target_sizes=sizes)[0],
    }


def main() -> None:
    """Write the fixture."""
    found: dict[str, Any] = {"transformers": transformers.__version__}
    for name, result in results().items():
        maps = result["segmentation"]
        is_map = isinstance(maps, torch.Tensor)
        found[name] = {
            "dtype": str(maps.dtype).removeprefix("torch.") if is_map else None,
            "segmentation": maps.int().tolist() if is_map else maps,
            "segments_info": result["segments_info"],
        }
    FIXTURE.write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
