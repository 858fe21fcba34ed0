"""The int8 forms of shipped weights: calibrate, judge, write. Also judges bf16.

    python benchmarks/quality/int8.py --data DATA --work runs/int8 --weights bpr-small
    python benchmarks/quality/int8.py --data DATA --work runs/int8 --weights bpr-small --precision bf16

Calibrates on patches of the training side of coco-cc and nuclei. Judges on images that were never trained on: the
validation side of coco-cc and nuclei, every fourth frame of davis, composed scenes of the validation side; each with all
kinds of coarse masks of `maskmend degrade`. The engine refines them in fp32 and in the other precision, both on OpenVINO,
with its defaults. Where mean IoU or F@1 falls by more than 0.002 on one of the sets, nothing is written, and the exit code
is 4; otherwise `OUTPUT/NAME.onnx`, `.json`, `.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from table import SETS, ground_truth

from maskmend.clients.export_gate import PATCHES, AccuracyError, Scene, all_scenes, judge, patches_of
from maskmend.models import load_refiner, resolve_weights
from maskmend.models.exporters import export_weights
from maskmend.models.gate import Gate, gate_table
from maskmend.models.refiner import NetworkRefiner
from maskmend.models.training.coarse import KINDS
from maskmend.models.training.splits import is_validation
from maskmend.models.zoo import SHIPPED, Weights

TRAINED_ON = ("coco-cc", "nuclei")
REFUSED = 4
Sets = dict[str, tuple[Path, Path]]
"""Annotation file and image folder, by name."""


def training_scenes(name: str, data: Path, most: int) -> list[Scene]:
    """The first scenes, by a hash of their ids, of the side of a set that networks are trained on."""
    coco = json.loads((data / name / "instances.json").read_text())
    coco["images"] = [image for image in coco["images"] if not is_validation(image["id"])]
    kept = {image["id"] for image in coco["images"]}
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in kept and not a.get("iscrowd")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "instances.json"
        file.write_text(json.dumps(coco))
        return all_scenes(file, data / name / "images")[:most]


def calibration_patches(refiner: NetworkRefiner, data: Path, most: int) -> NDArray[np.float32]:
    """As many patches of each set, evenly from its scenes."""
    each = PATCHES // len(TRAINED_ON)
    return np.concatenate([patches_of(refiner, training_scenes(name, data, most), each) for name in TRAINED_ON])


def judged(original: NetworkRefiner, other: NetworkRefiner, sets: Sets) -> tuple[tuple[Gate, ...], bool]:
    """Figures of every set, and whether all of them pass."""
    gates = []
    for name, (truth, images) in sets.items():
        scenes = [scene for kind in KINDS for scene in all_scenes(truth, images, kind)]
        gates.append(judge(original, other, scenes, most=sum(len(scene.truths) for scene in scenes)).record(name))
        print(gate_table((gates[-1],)).splitlines()[-1], flush=True)
    return tuple(gates), all(gate.passed for gate in gates)


def write_int8(name: str, original: NetworkRefiner, output: Path, data: Path, most: int, sets: Sets) -> None:
    """Export where every set passes; AccuracyError otherwise."""

    def accept(fresh: Weights, runtime: str) -> tuple[Gate, ...]:
        place = fresh.folder / f"{fresh.manifest.name}.json"
        gates, passed = judged(original, load_refiner(weights=place, runtime=runtime), sets)
        if not passed:
            raise AccuracyError("the int8 form refines worse than fp32; nothing was written", field="precision")
        return gates

    made = export_weights(
        resolve_weights(name),
        output,
        form="onnx",
        precision="int8",
        name=name,
        patches=calibration_patches(original, data, most),
        accept=accept,
        runtime="openvino",
    )
    print(f"{made.weights.onnx_path}: {made.weights.onnx_path.stat().st_size} bytes; {made.parity}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--weights", nargs="+", default=["bpr-small"])
    parser.add_argument("--precision", default="int8", choices=("int8", "bf16"), help="bf16 is judged only")
    parser.add_argument("--output", type=Path, default=SHIPPED / "int8")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS, help="to judge on")
    parser.add_argument("--scenes", type=int, default=40, help="of each set, to calibrate on at most")
    parser.add_argument("--every", type=int, default=4, help="of davis, every n-th image")
    arguments = parser.parse_args()
    sets = {name: ground_truth(name, arguments.data, arguments.work, arguments.every) for name in arguments.sets}
    refused = 0
    for name in arguments.weights:
        original = load_refiner(weights=name, runtime="openvino")
        print(f"{name}, fp32 → {arguments.precision}", flush=True)
        if arguments.precision == "bf16":
            refused += not judged(original, load_refiner(weights=name, runtime="openvino", precision="bf16"), sets)[1]
            continue
        try:
            write_int8(name, original, arguments.output, arguments.data, arguments.scenes, sets)
        except AccuracyError as error:
            print(error, file=sys.stderr)
            refused += 1
    raise SystemExit(REFUSED if refused else 0)


if __name__ == "__main__":
    main()
