"""Networks at equal training cost: each trains for the same number of CPU seconds on one thread, on the same patches.

    python benchmarks/quality/networks.py --data DATA --work runs/networks --seconds 420

Then: accuracy within 5 px of the true boundary on composed validation scenes (averaged weights, no guard), and the time a
patch takes on OpenVINO, one thread. Prints a Markdown table and draws `networks.png`. A run that has come as far already
is not repeated; `--names` picks a few, so that two can run side by side.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from maskmend.models.training.train import CONFIGS, read_curves

NETWORKS: dict[str, dict[str, Any]] = {
    "bpr-small": {},
    "bpr-base": {"_base": "bpr-base"},
    "no context": {
        "arguments": {"detail": 8, "widths": [32, 64, 128], "blocks": [1, 1, 2]},
        "input_size": 64,
        "padding": 0,
    },
    "light encoder-decoder": {"architecture": "light_unet", "arguments": {}, "input_size": 64, "padding": 0},
    "HRNet W12 slim": {"architecture": "hrnet_w12_slim", "arguments": {}, "input_size": 128, "padding": 0},
    "HRNet W18-Small": {"architecture": "hrnet_w18_small", "arguments": {}, "input_size": 128, "padding": 0},
}
KINDS = ("rcnn28", "yolo", "polygon", "warp", "perturb")


def configuration(name: str) -> dict[str, Any]:
    """The recipe of `bpr-small` with another network in it."""
    values = dict(NETWORKS[name])
    base = yaml.safe_load((CONFIGS / f"{values.pop('_base', 'bpr-small')}.yaml").read_text())
    slug = name.lower().replace(" ", "-")
    values |= {"grow": None, "threads": 1}
    return {**base, **values, "name": slug, "steps": 1_000_000, "validate_every": 50, "checkpoint_every": 50}


def train(name: str, data: Path, work: Path, seconds: float) -> None:
    """Train until the budget is spent."""
    settings = configuration(name)
    folder = work / settings["name"]
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "done").is_file():
        return
    file = folder / "config.yaml"
    settings["validate_every"] = settings["checkpoint_every"] = max(10, int(seconds / 4 * speed(settings) / 32))
    file.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "maskmend.clients.cli", "train", "--config", str(file), "--data", str(data)]
    process = subprocess.Popen([*command, "--output", str(folder)])
    while process.poll() is None and not (read_curves(folder) and read_curves(folder)[-1]["cpu_seconds"] >= seconds):
        time.sleep(5)
    process.send_signal(signal.SIGTERM)
    process.wait()
    (folder / "done").touch()


def speed(settings: dict[str, Any]) -> float:
    """Training patches per second, measured on eight steps."""
    import torch

    from maskmend.models.architectures import build_network

    torch.set_num_threads(1)
    network = build_network(settings["architecture"], **settings["arguments"]).to(memory_format=torch.channels_last)
    side = settings["input_size"]
    inputs = torch.randn(32, 4, side, side).to(memory_format=torch.channels_last)
    began = 0.0
    for step in range(6):
        if step == 2:
            began = time.monotonic()
        network(inputs).square().mean().backward()
    return 4 * 32 / (time.monotonic() - began)


def milliseconds(settings: dict[str, Any], work: Path) -> tuple[float, float, int]:
    """(ms per patch on OpenVINO, one thread; GMAC; parameters)."""
    import torch

    from maskmend.models import load_refiner
    from maskmend.models.architectures import build_network
    from maskmend.models.export import write_weights

    folder = work / settings["name"] / "weights"
    network = build_network(settings["architecture"], **settings["arguments"])
    network.load_state_dict(torch.load(folder.parent / "checkpoint.pt", weights_only=True)["average"])
    write_weights(
        network.eval(),
        folder,
        name=settings["name"],
        architecture=settings["architecture"],
        arguments=settings["arguments"],
        input_size=settings["input_size"],
        padding=settings["padding"],
        license="Apache-2.0",
        source="briefly trained, for timing",
        card="",
    )
    manifest = json.loads((folder / f"{settings['name']}.json").read_text())
    refiner = load_refiner(weights=folder / f"{settings['name']}.json", runtime="openvino", threads=1)
    side = settings["input_size"]
    patches = np.random.default_rng(0).standard_normal((64, 4, side, side)).astype(np.float32)
    times = []
    for _ in range(7):
        began = time.perf_counter()
        refiner.forward(patches)
        times.append((time.perf_counter() - began) / len(patches))
    return 1e3 * float(np.median(times)), manifest["gmac"], manifest["parameters"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--names", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--train-only", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.names:
        train(name, arguments.data, arguments.work, arguments.seconds)
    if not arguments.train_only:
        report(arguments.names, arguments.work, arguments.seconds)


def report(names: list[str], work: Path, seconds: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    print("| network | parameters | GMAC | ms per patch | patches seen | " + " | ".join(KINDS) + " | mean |")
    print("| --- " * (6 + len(KINDS)) + "|")
    for number, name in enumerate(names):
        settings = configuration(name)
        found = read_curves(work / settings["name"])
        row = min(found, key=lambda r: abs(r["cpu_seconds"] - seconds))
        cost, gmac, parameters = milliseconds(settings, work)
        after = [row[f"{kind}_refined"] for kind in KINDS]
        seen = f"{int(row['step'] * settings['batch']):,}"
        cells = " | ".join(f"{value:.4f}" for value in (*after, float(np.mean(after))))
        print(f"| {name} | {parameters:,} | {gmac:.3f} | {cost:.2f} | {seen} | {cells} |")
        axes.scatter([cost], [np.mean(after)], color=f"C{number}", s=60)
        axes.annotate(name, (cost, np.mean(after)), textcoords="offset points", xytext=(7, 5))
    before = [row[f"{kind}_coarse"] for kind in KINDS]
    print("| coarse masks | | | | | " + " | ".join(f"{v:.4f}" for v in (*before, float(np.mean(before)))) + " |")
    axes.axhline(float(np.mean(before)), color="grey", linestyle=":", label="coarse masks")
    axes.set_xscale("log")
    axes.set_xlabel("ms per patch (OpenVINO, one thread)")
    axes.set_ylabel("accuracy within 5 px of the true boundary")
    axes.set_title(f"Networks after {seconds:.0f} CPU seconds of training")
    axes.margins(x=0.3, y=0.12)
    axes.legend(loc="upper right")
    figure.tight_layout()
    figure.savefig(work / "networks.png", dpi=110)


if __name__ == "__main__":
    main()
