"""True masks of the shipped sample, few enough to refine in a test."""

from __future__ import annotations

import json
from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "samples"


def write_largest(count: int, path: Path) -> Path:
    """Write an instances file with the largest `count` instances of each photograph of the sample, crowds apart."""
    document = json.loads((SAMPLES / "instances.json").read_text())
    kept = []
    for image in document["images"]:
        own = [a for a in document["annotations"] if a["image_id"] == image["id"] and not a.get("iscrowd")]
        kept += sorted(own, key=lambda a: -a["area"])[:count]
    path.write_text(json.dumps({**document, "annotations": kept}))
    return path
