"""How fast a GPU refines, and whether it says what the CPU says.

    python benchmarks/gpu.py                       # on the first GPU; without one it says so, and ends well
    python benchmarks/gpu.py --device cpu --quick  # the same steps on the CPU: checks the script, measures no GPU
    python benchmarks/gpu.py --json gpu.json --weights bpr-base

Prints the machine, parity with the CPU (logits, and masks of the whole engine), patches per second at batches of 1 to 512
with the share of the peak that a matrix product of the same precision reaches here, milliseconds for an image of
1024 x 2048 px with about 135 patches, and memory. The figure to beat on like work is the BPR paper's: 211 ms for such an
image (RTX 2080 Ti, Tang et al., CVPR 2021).
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAPER_MS = 211.0
PATCHES = 135
FRAME = (1024, 2048)


def main() -> int:
    options = _options()
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: nothing is measured. Install its CUDA build.")
        return 0
    if options.device != "cpu" and not torch.cuda.is_available():
        print("No GPU that PyTorch can use: nothing is measured. `--device cpu --quick` checks the script itself.")
        return 0
    found: dict[str, Any] = {"machine": machine(options.device)}
    print(" | ".join(f"{key}: {value}" for key, value in found["machine"].items()))
    found["parity"] = [parity(options, precision) for precision in options.precisions]
    found["speed"] = [row for precision in options.precisions for row in speed(options, precision)]
    found["image"] = [image(options, precision) for precision in options.precisions]
    found["memory"] = memory(options.device)
    print("memory: " + ", ".join(f"{key} {value} MB" for key, value in found["memory"].items()))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    worst = max(row["mask_pixels_apart_share"] for row in found["parity"] if row["precision"] == "fp32")
    if worst > 1e-3:
        print("parity: masks in fp32 are not those of the CPU", file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu")
    parser.add_argument("--weights", default="bpr-small", help="name or path")
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16", "fp16"), default=["fp32", "bf16", "fp16"])
    parser.add_argument("--most", type=int, default=512, help="largest batch")
    parser.add_argument("--repeats", type=int, default=20, help="medians of so many runs")
    parser.add_argument("--quick", action="store_true", help="fp32, batches up to 2, three runs")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    if options.quick:
        options.precisions, options.most, options.repeats = ["fp32"], 2, 3
    if "fp32" not in options.precisions:
        options.precisions.insert(0, "fp32")  # parity is judged by it
    return options


def machine(device: str) -> dict[str, str]:
    """What was measured on."""
    import torch

    facts = {"torch": torch.__version__, "cpu": _processor()}
    if device == "cpu":
        return {"device": "CPU (no GPU is measured)", **facts}
    name = torch.cuda.get_device_name(device)
    major, minor = torch.cuda.get_device_capability(device)
    return {"device": name, "capability": f"{major}.{minor}", "cuda": str(torch.version.cuda), **facts}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def parity(options: argparse.Namespace, precision: str) -> dict[str, Any]:
    """Logits of the same patches, and masks of the same instances, on the device and on the CPU in fp32."""
    from maskmend.models import load_refiner, resolve_weights
    from maskmend.models.exporters.parity import sample
    from maskmend.models.runtimes import create_runtime
    from maskmend.models.runtimes.torch_cuda import TorchCudaRuntime
    from maskmend.service import Engine

    weights = resolve_weights(options.weights)
    patches = sample(4 if options.quick else 64, weights.manifest.input_size)
    wanted = create_runtime("torch", weights).run(patches)
    count = 4 if options.device == "cpu" else 64
    runtime = TorchCudaRuntime(weights, precision=precision, device=options.device, batches=(count,))
    got = runtime.run(patches)
    picture, masks = scene(2 if options.quick else 6)
    on_cpu = load_refiner(weights=weights.folder / f"{weights.manifest.name}.json", runtime="torch")
    on_device = type(on_cpu)(weights, runtime)
    pairs = zip(
        Engine(on_cpu).refine_image(picture, masks), Engine(on_device).refine_image(picture, masks), strict=True
    )
    apart = sum(int(np.count_nonzero(a.mask.to_dense() != b.mask.to_dense())) for a, b in pairs)
    row = {
        "precision": precision,
        "largest_logit_difference": float(np.abs(got - wanted).max()),
        "pixels_flipped_share": float(((got > 0) != (wanted > 0)).mean()),
        "mask_pixels_apart": apart,
        "mask_pixels_apart_share": apart / sum(mask.area for mask in masks),
        "cuda_graphs": runtime.graphs,
    }
    print(
        f"parity {precision}: largest logit difference {row['largest_logit_difference']:.2e}, "
        f"{100 * row['pixels_flipped_share']:.3f} % of patch pixels and {apart} px of the masks differ"
    )
    return row


def speed(options: argparse.Namespace, precision: str) -> list[dict[str, Any]]:
    """Patches per second at each batch: from memory of the processor and back, and on the device alone."""
    import torch

    from maskmend.models import resolve_weights
    from maskmend.models.exporters.parity import sample
    from maskmend.models.runtimes.torch_cuda import TorchCudaRuntime

    weights = resolve_weights(options.weights)
    peak = measured_peak(options, precision)
    rows = []
    batch = 1
    while batch <= options.most:
        runtime = TorchCudaRuntime(weights, precision=precision, device=options.device, batches=(batch,))
        given = sample(batch, weights.manifest.input_size)
        there = torch.from_numpy(given).to(runtime.device)
        whole = seconds(lambda runtime=runtime, given=given: runtime.run(given), options)
        alone = seconds(lambda runtime=runtime, there=there: runtime.logits(there), options)
        rate = batch / alone
        row = {
            "precision": precision,
            "batch": batch,
            "patches_per_s": batch / whole,
            "patches_per_s_on_device": rate,
            "tflops": 2 * weights.manifest.gmac * rate / 1000,
            "share_of_peak": 2e9 * weights.manifest.gmac * rate / peak,
        }
        rows.append(row)
        print(
            f"{precision} batch {batch:4d}: {row['patches_per_s']:10.0f} patches/s, {rate:10.0f} on the device, "
            f"{100 * row['share_of_peak']:5.1f} % of {peak / 1e12:.2f} TFLOP/s"
        )
        batch *= 2
        # A runtime and its passes hold one another; the memory of its graph would stay beside that of the next.
        del runtime
        gc.collect()
    return rows


def measured_peak(options: argparse.Namespace, precision: str) -> float:
    """Operations per second of a large square matrix product in this precision, here and now."""
    import torch

    from maskmend.models.runtimes.torch_cuda import DTYPES

    size = 512 if options.device == "cpu" else 8192
    left = torch.randn(size, size, device=options.device).to(DTYPES[precision])
    return 2 * size**3 / seconds(lambda: left @ left, options)


def image(options: argparse.Namespace, precision: str) -> dict[str, Any]:
    """Milliseconds for one image of the paper's size and number of patches: one pass, and everything as by default."""
    from maskmend.models import load_refiner, resolve_weights
    from maskmend.models.runtimes.torch_cuda import TorchCudaRuntime
    from maskmend.service import Engine, EngineOptions

    weights = resolve_weights(options.weights)
    runtime = TorchCudaRuntime(
        weights, precision=precision, device=options.device, batches=(4 if options.device == "cpu" else 64,)
    )
    kind = type(load_refiner(weights=weights.folder / f"{weights.manifest.name}.json", runtime="torch"))
    refiner = kind(weights, runtime)
    picture, masks = scene(2 if options.quick else None)
    row: dict[str, Any] = {"precision": precision, "instances": len(masks)}
    for label, how in (("one_pass", EngineOptions(passes=1, guard=False)), ("default", EngineOptions())):
        engine = Engine(refiner, how)
        looked = sum(result.patches for result in engine.refine_image(picture, masks))
        row[f"{label}_patches"] = looked
        row[f"{label}_ms"] = 1000 * seconds(
            lambda engine=engine: engine.refine_image(picture, masks), options, repeats=max(3, options.repeats // 4)
        )
        print(
            f"{precision} image {picture.shape[1]}x{picture.shape[0]}, {label.replace('_', ' ')}: "
            f"{row[f'{label}_ms']:.1f} ms, {looked} patches "
            f"(paper: {PAPER_MS:.0f} ms for {FRAME[1]}x{FRAME[0]}, {PATCHES} patches, one pass, RTX 2080 Ti)"
        )
    return row


def scene(count: int | None) -> tuple[NDArray[np.uint8], list[Any]]:
    """An image with disks and coarse masks of them: `count`, or as many as need about `PATCHES` patches."""
    from maskmend.patcher import Rle, boundary_boxes

    rng = np.random.default_rng(1)
    height, width = FRAME if count is None else (256, 512)
    picture = rng.integers(0, 255, (height, width, 3), np.uint8)
    rows, columns = np.indices((height, width))
    masks: list[Any] = []
    patches = 0
    while (patches < PATCHES) if count is None else (len(masks) < count):
        y, x, r = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(30, 140 if count is None else 60)
        disk = (rows - y) ** 2 + (columns - x) ** 2 < r * r
        picture[disk] = picture[disk] // 3 + rng.integers(0, 160, 3, np.uint8)
        masks.append(Rle.from_dense(np.roll(disk, (2, 3), (0, 1))))
        patches += len(boundary_boxes(masks[-1]))
    return picture, masks


def seconds(work: Callable[[], object], options: argparse.Namespace, repeats: int | None = None) -> float:
    """Median time of one call, after two that are not counted."""
    import torch

    times = []
    for number in range((repeats or options.repeats) + 2):
        began = time.perf_counter()
        work()
        if options.device != "cpu":
            torch.cuda.synchronize(options.device)
        if number >= 2:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def memory(device: str) -> dict[str, int]:
    """Most memory taken so far, in MB."""
    import torch

    taken = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    if device != "cpu":
        taken["device"] = torch.cuda.max_memory_reserved(device) // 2**20
    return taken


if __name__ == "__main__":
    sys.exit(main())
