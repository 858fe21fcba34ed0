"""Fit the guard's two regressions and draw harm against gain.

    python benchmarks/quality/calibrate.py --data DATA --work runs/calibration --weights bpr-small bpr-base --fit bpr-small

Fits on composed scenes that no other benchmark uses, on nuclei and, with a quarter of their say, on coco-cc (validation
side), each coarse kind and exact masks; davis is only measured, never fitted on. Prints the tables for
patcher/evidence.py and writes `guard.png`; `--write` puts them into the manifest of the weights they were fitted on.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from guard_cases import SAY, SETS, Case, cases, instances, iou

from maskmend.models import load_refiner, resolve_weights
from maskmend.models.training.coarse import KINDS
from maskmend.models.zoo import GuardTables, Weights
from maskmend.patcher.defaults import HOLD
from maskmend.patcher.evidence import CHANGE_WEIGHTS, INSTANCE_WEIGHTS, chances
from maskmend.patcher.metrics import boundary_f
from maskmend.service import Engine, EngineOptions
from maskmend.service.options import Patches

CAUTIONS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8)
HARM = 0.005


def fit(features: NDArray[np.float64], right: NDArray[np.bool_], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted logistic regression by Newton's method, with a light ridge on standardised features."""
    scale = np.maximum(features.std(0), 1e-9)
    scale[0] = 1.0
    x, w = features / scale, weight / weight.mean()
    theta = np.zeros(x.shape[1])
    ridge = np.full(x.shape[1], 1e-3 * len(x))
    ridge[0] = 0
    for _ in range(60):
        p = 1 / (1 + np.exp(-np.clip(x @ theta, -30, 30)))
        gradient = x.T @ (w * (right - p)) - ridge * theta
        curvature = (x * (w * p * (1 - p))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        theta += step
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(theta / scale)


def balanced(names: list[str]) -> NDArray[np.float64]:
    """Weights that give every set its say, whatever the number of its instances."""
    return np.array([SAY[name] / names.count(name) for name in names])


def fit_changes(found: list[Case]) -> dict[str, float]:
    """Table for `CHANGE_WEIGHTS`: is a change right in more than half of its pixels? Large ones count more.

    Where the truth itself is off by some pixels it cannot tell, so coco-cc has no say in this one.
    """
    found = [case for case in found if case.set != "coco-cc"]
    rows, right, weight = [], [], []
    sets = balanced([case.set for case in found])
    for case, share in zip(found, sets, strict=True):
        changes = case.evidence.changes
        if not len(changes.size):
            continue
        good = np.where(case.evidence.after == case.truth, 1, -1)
        gain = np.bincount(changes.labels.ravel(), good.ravel(), len(changes.size) + 1)[1:]
        rows.append(case.evidence.change_features())
        right.append(gain > 0)
        weight.append(share * np.abs(gain) / max(int(case.truth.sum()), 1) ** 0.5)
    theta = fit(np.concatenate(rows), np.concatenate(right), np.concatenate(weight) + 1e-12)
    return dict(zip(CHANGE_WEIGHTS, theta.tolist(), strict=True))


def kept_changes(case: Case, table: dict[str, float], caution: float) -> NDArray[np.bool_]:
    return chances(case.evidence.change_features(), table) >= caution


def mask_of(case: Case, kept: NDArray[np.bool_]) -> NDArray[np.uint8]:
    chosen = np.concatenate([[False], kept])[case.evidence.changes.labels]
    return np.where(chosen, case.evidence.after, case.evidence.before)


def fit_instances(found: list[Case], changes: dict[str, float], caution: float, harm: float) -> dict[str, float]:
    """Table for `INSTANCE_WEIGHTS`: is the IoU higher? Large differences count more, harm `harm` times as much as gain."""
    rows, gains, names = [], [], []
    for case in found:
        kept = kept_changes(case, changes, caution)
        if kept.any():
            rows.append(case.evidence.instance_features(kept))
            gains.append(iou(mask_of(case, kept), case) - iou(case.evidence.before, case))
            names.append(case.set)
    gain = np.array(gains)
    weight = balanced(names) * np.minimum(np.abs(gain), 0.05) * np.where(gain < 0, harm, 1.0)
    theta = fit(np.stack(rows), gain > 0, weight + 1e-12)
    return dict(zip(INSTANCE_WEIGHTS, theta.tolist(), strict=True))


def measure(
    found: list[Case], changes: dict[str, float], whole: dict[str, float], caution: float
) -> dict[tuple[str, str], tuple[float, float, float, float]]:
    """Mean IoU gain, harmed share, mean F@1 gain and F@1 before, of each set and kind."""
    sums: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    for case in found:
        before = np.asarray(case.evidence.before)
        kept = kept_changes(case, changes, caution)
        after = before
        if kept.any() and chances(case.evidence.instance_features(kept)[None], whole)[0] >= caution:
            after = mask_of(case, kept)
        gain = iou(after, case) - iou(before, case)
        first = boundary_f(before, case.truth, 1)
        then = boundary_f(after, case.truth, 1) if after is not before else first
        sums.setdefault((case.set, case.kind), []).append((gain, float(gain < -HARM), then - first, first))
    return {key: tuple(np.mean(values, 0).tolist()) for key, values in sums.items()}  # type: ignore[misc]


def show(table: dict[tuple[str, str], tuple[float, float, float, float]]) -> None:
    for name in SETS:
        rows = {kind: row for (found, kind), row in table.items() if found == name}
        cells = [
            f"{kind} {1e3 * g:+.1f} gap {f / max(1 - b, 1e-9):+.2f} harmed {100 * h:.0f} %"
            for kind, (g, h, f, b) in rows.items()
        ]
        main = [rows[kind] for kind in KINDS if kind in rows]
        if main:
            g, h, f, _ = np.mean(main, 0)
            gap = np.mean([row[2] / max(1 - row[3], 1e-9) for row in main])
            print(f"{name:9s} IoU {1e3 * g:+.1f}e-3, F@1 {f:+.4f}, gap closed {gap:.3f}, harmed {100 * h:.1f} %")
            print("          " + " | ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--weights", nargs="+", default=["bpr-small"])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--every", type=int, default=8, help="of davis, every n-th image")
    parser.add_argument("--scenes", type=int, default=50, help="composed scenes")
    parser.add_argument("--most", type=int, default=6, help="instances of one image and kind")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--strength", type=float, default=HOLD, help="how far probabilities are held back")
    parser.add_argument("--harm", type=float, default=2.0, help="how much more a lower IoU counts than a higher one")
    parser.add_argument(
        "--patches",
        default="dense",
        choices=get_args(Patches),
        help="adaptive fits ADAPTIVE_CALIBRATION of patcher/evidence.py",
    )
    parser.add_argument("--fit", nargs="+", help="weights to fit on, if not on all of --weights")
    parser.add_argument(
        "--write", action="store_true", help="into the manifest; for tables fitted on one set of weights"
    )
    arguments = parser.parse_args()
    fitted_on = arguments.fit or arguments.weights
    if arguments.write and len(fitted_on) > 1:
        parser.error("--write is for tables fitted on one set of weights; name it by --fit")
    if arguments.write and arguments.patches == "adaptive":
        parser.error("--write is for --patches dense; the tables of adaptive patches are in patcher/evidence.py")
    arguments.work.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Case]] = {}
    for weights in arguments.weights:
        used = resolve_weights(weights).manifest.sha256["onnx"][:8]
        asked = f"{used}-{arguments.strength:g}-{arguments.scenes}-{arguments.most}-{arguments.every}"
        if arguments.patches != "dense":
            asked += f"-{arguments.patches}"
        file = arguments.work / f"{Path(weights).stem}-{asked}.pkl"
        if not file.is_file():
            refiner = load_refiner(weights=weights, threads=arguments.threads)
            refiner.calibration = replace(refiner.calibration, strength=arguments.strength)
            sparse = arguments.patches == "adaptive"
            # What the tables of sparse looks are for is the state after the first.
            engine = Engine(refiner, EngineOptions(patches="adaptive", passes=1) if sparse else EngineOptions())
            here: list[Case] = []
            for name in arguments.sets:
                source = instances(name, arguments.data, arguments.work, arguments.every, arguments.scenes)
                here += cases(engine, name, source, arguments.most, "sparse" if sparse else None)
                print(f"{weights} {name}: {len(here)} instances so far", flush=True)
            file.write_bytes(pickle.dumps(here))
        found[weights] = pickle.loads(file.read_bytes())
    every = [case for weights in fitted_on for case in found[weights]]
    fitted = [case for case in every if case.set in SAY]
    changes = fit_changes(fitted)
    whole = fit_instances(fitted, changes, 0.5, arguments.harm)
    for title, table in (("CHANGE_WEIGHTS", changes), ("INSTANCE_WEIGHTS", whole)):
        print(f"{title} = {{")
        for key, value in table.items():
            print(f'    "{key}": {value:.3f},')
        print("}")
    if arguments.write:
        write(resolve_weights(fitted_on[0]), changes, whole, arguments.strength)
    curves = {}
    for weights, here in found.items():
        for caution in CAUTIONS:
            curves[Path(weights).stem, caution] = table = measure(here, changes, whole, caution)
            print(f"== {weights}, caution {caution}")
            show(table)
    draw(curves, arguments.work / "guard.png")


def write(weights: Weights, changes: dict[str, float], whole: dict[str, float], strength: float) -> None:
    """Put the tables into the manifest."""
    tables = GuardTables(
        changes={key: round(value, 3) for key, value in changes.items()},
        instances={key: round(value, 3) for key, value in whole.items()},
        strength=strength,
    )
    manifest = weights.manifest.model_copy(update={"guard": tables})
    file = weights.folder / f"{manifest.name}.json"
    file.write_text(manifest.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
    print(f"{file} has these tables now")


def draw(curves: dict[tuple[str, float], dict[tuple[str, str], tuple[float, float, float, float]]], file: Path) -> None:
    """Harmed instances against the IoU gain kept, one line per set, one panel per set of weights."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(weights for weights, _ in curves))
    figure, panels = pyplot.subplots(1, len(names), figsize=(6 * len(names), 4.5), squeeze=False)
    for panel, weights in zip(panels[0], names, strict=True):
        for number, name in enumerate(SETS):
            points = []
            for caution in CAUTIONS:
                table = curves[weights, caution]
                rows = [table[name, kind] for kind in KINDS if (name, kind) in table]
                if rows:
                    points.append((100 * np.mean([row[1] for row in rows]), 1e3 * np.mean([row[0] for row in rows])))
            if points:
                panel.plot(*zip(*points, strict=True), marker="o", markersize=3, color=f"C{number}", label=name)
                chosen = points[CAUTIONS.index(0.5)]
                panel.plot(*chosen, marker="*", markersize=14, color=f"C{number}")
        panel.axvline(3, color="grey", linestyle=":", linewidth=1)
        panel.set_xscale("symlog", linthresh=1)
        panel.set_xlim(left=-0.1)
        panel.set_xlabel("harmed instances, %")
        panel.set_ylabel("gain of mean IoU, thousandths")
        panel.set_title(f"{weights}: caution 0 (right) to 0.8 (left), star: 0.5")
        panel.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
