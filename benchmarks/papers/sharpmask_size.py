"""How many values the refinement of SharpMask learns (section 4.2: fewer than 3 million).

    python benchmarks/papers/sharpmask_size.py

Counted is all beside the trunk: the encoding of the mask, the four refinement modules and the head. The configuration that
is shipped, and both schedules at the paper's k = 32: on our trunk, and on skip features as wide as those of a ResNet-50,
which is our reading of the paper's trunk.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import torch

from maskmend.models.sharpmask import SCHEDULES, SharpMask
from maskmend.models.training.config import read_config
from maskmend.models.training.train import CONFIGS

PAPER = 3_000_000
K = 32
RESNET50: dict[str, Any] = {"widths": (64, 256, 512), "context": 1024}
"""Channels at a half, a quarter, an eighth and a sixteenth of the crop."""


def count(arguments: dict[str, Any]) -> dict[str, Any]:
    """Of a network with these arguments: values beside the trunk, and channels that the four modules read."""
    # Shapes alone: a trunk as wide as that of a ResNet-50 has no use here.
    with torch.device("meta"):
        network = SharpMask(**arguments)
    return {"refinement": network.refinement_parameters(), "skip": [network.far, *reversed(network.widths)]}


def rows() -> dict[str, dict[str, Any]]:
    """Figures by the label of the row."""
    shipped = read_config(CONFIGS / "sharpmask-small.yaml").arguments
    found = {"shipped configuration": count(shipped)}
    for schedule in SCHEDULES:
        asked = {"channels": K, "schedule": schedule}
        found[f"k = {K}, {schedule}"] = count(asked)
        found[f"k = {K}, {schedule}, skip features as wide as a ResNet-50's"] = count({**asked, **RESNET50})
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or JSON; 1 when a row has as many as the paper's limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    given = parser.parse_args(arguments)
    found = rows()
    if given.json:
        print(json.dumps({"paper": f"< {PAPER}", "rows": found}, indent=1))
    else:
        print("| network | channels of the skip features | refinement parameters | paper |")
        print("| --- " * 4 + "|")
        for label, row in found.items():
            skip = ", ".join(map(str, row["skip"]))
            print(f"| {label} | {skip} | {row['refinement']:,} | < {PAPER:,} |")
    return int(any(row["refinement"] >= PAPER for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())
