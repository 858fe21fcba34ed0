"""What a Triton on the same machine costs: the same patches in process and through it, turn by turn.

    maskmend export bpr-small --triton-repository repository --backend python --instances 2
    tritonserver --model-repository repository
    python benchmarks/triton.py --triton-url grpc://127.0.0.1:8001 --triton-url http://127.0.0.1:8000 \
        --triton-url 'grpc://127.0.0.1:8001?shared_memory=1'

Prints, for each batch size, the median time of a batch and its ratio to that in process, and the processor time of this
process alone; then, for the sample photographs, time and processor time per image, geometry included. What is spent in
Triton is not in the processor time, what is spent in process is. Answers are compared bit by bit before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from maskmend.clients import Refiner
from maskmend.models.runtimes import create_runtime
from maskmend.models.zoo import resolve_weights

SAMPLES = Path(__file__).parents[1] / "samples"


def timed(call: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds and processor seconds of each; one after the other in every round, as the machine's mood changes."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            measured = timed(call)
            if turn:
                found[name].append(measured)
    return {
        name: (statistics.median(wall for wall, _ in each), statistics.median(cpu for _, cpu in each))
        for name, each in found.items()
    }


def batches(given: argparse.Namespace) -> None:
    weights = resolve_weights(given.weights)
    size = weights.manifest.input_size
    runtimes = {"in process": create_runtime("onnx", weights, threads=given.threads)}
    for url in given.triton_url:
        runtimes[url] = create_runtime("triton", weights, triton_url=url)
    print(f"{'batch':>6} {'way':<44} {'ms':>9} {'ratio':>7} {'CPU ms here':>12}")
    for count in given.batch:
        patches = np.random.default_rng(count).standard_normal((count, 4, size, size)).astype(np.float32)
        wanted = runtimes["in process"].run(patches).tobytes()
        for name, runtime in runtimes.items():
            assert runtime.run(patches).tobytes() == wanted, f"{name} gives other bits"
        calls = {name: partial(runtime.run, patches) for name, runtime in runtimes.items()}
        found = in_turns(calls, given.rounds)
        first = found["in process"][0]
        for name, (wall, cpu) in found.items():
            print(f"{count:>6} {name:<44} {wall * 1e3:>9.2f} {wall / first:>7.2f} {cpu * 1e3:>12.2f}")


def images(given: argparse.Namespace) -> None:
    coarse = json.loads((SAMPLES / "coarse.json").read_text())
    work = []
    for image in json.loads((SAMPLES / "instances.json").read_text())["images"][: given.images]:
        masks = [record["segmentation"] for record in coarse if record["image_id"] == image["id"]]
        work.append((SAMPLES / "images" / image["file_name"], masks))
    count = sum(len(masks) for _, masks in work)
    ways = {"in process": Refiner(weights=given.weights, runtime="onnx", threads=given.threads)}
    for url in given.triton_url:
        ways[url] = Refiner(weights=given.weights, runtime="triton", triton_url=url)

    def refine(refiner: Refiner) -> list[object]:
        return [refiner.refine(path, masks).rles for path, masks in work]

    wanted = refine(ways["in process"])
    assert all(refine(refiner) == wanted for refiner in ways.values()), "masks differ"
    rounds = max(3, given.rounds // 4)
    found = in_turns({name: partial(refine, refiner) for name, refiner in ways.items()}, rounds)
    first = found["in process"][0]
    print(f"\n{len(work)} sample photographs, {count} instances; per image:")
    print(f"{'way':<44} {'ms':>9} {'ratio':>7} {'CPU ms here':>12}")
    for name, (wall, cpu) in found.items():
        print(f"{name:<44} {wall * 1e3 / len(work):>9.1f} {wall / first:>7.2f} {cpu * 1e3 / len(work):>12.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--triton-url", action="append", required=True, help="may be given several times")
    parser.add_argument("--weights", default="bpr-small")
    parser.add_argument("--threads", type=int, default=None, help="of ONNX Runtime in process; all cores if not given")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--images", type=int, default=8, help="sample photographs; 0 for none")
    given = parser.parse_args()
    batches(given)
    if given.images:
        images(given)


if __name__ == "__main__":
    main()
