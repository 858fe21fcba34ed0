"""How far an exported network is from the one it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.models.runtimes import create_runtime
from maskmend.models.zoo import Weights
from maskmend.patcher.errors import WeightsError

LARGEST_FP32 = 1e-4
"""Largest difference of a logit that is put down to rounding."""
MOST_FLIPPED = {"fp16": 0.005, "bf16": 0.02}
"""Share of pixels that may change sides; of int8 the accuracy gate judges."""


@dataclass(frozen=True)
class Parity:
    """Logits of an export against those of the float32 graph, patch by patch.

    Attributes:
        patches: compared.
        largest: largest |difference|.
        median: median over the patches of their largest |difference|.
        mean: mean |difference|.
        flipped: share of pixels that change from foreground to background or back.
    """

    patches: int
    largest: float
    median: float
    mean: float
    flipped: float

    def __str__(self) -> str:
        return (
            f"{self.patches} patches, largest difference of a logit {self.largest:.2e}, mean {self.mean:.2e}, "
            f"{100 * self.flipped:.3f} % of pixels change sides"
        )


def compare(
    original: Weights,
    exported: Weights,
    patches: NDArray[np.float32],
    *,
    runtime: str,
    precision: str,
    device: str | None = None,
) -> Parity:
    """Run both on the same patches.

    Args:
        original: with the float32 ONNX graph, run on the first runtime of the CPU that is installed.
        exported: run on `runtime`.
        patches: float32 [N, 4, S, S].
        runtime: of the export; `aoti` runs its package.
        precision: of the export, which says how near it must be.
        device: of the export.

    Raises:
        WeightsError: too far from one another, or values that are not finite.
    """
    wanted = create_runtime(_reference(), original).run(patches)
    if runtime == "aoti":
        from maskmend.models.exporters.aot import run_package

        got = run_package(exported.file("pt2"), patches, device=device or "cpu")
    else:
        got = create_runtime(runtime, exported, device=device if runtime == "tensorrt" else None).run(patches)
    name = exported.manifest.name
    if got.shape != wanted.shape:
        raise WeightsError(f"{name} gives {got.shape} where the original gives {wanted.shape}", field="weights")
    if not (np.isfinite(got).all() and np.isfinite(wanted).all()):
        raise WeightsError(
            f"{name} gives values that are not finite; use bf16 or fp32, whose range is wider", field="precision"
        )
    apart = np.abs(got - wanted).reshape(len(got), -1)
    each = apart.max(axis=1)
    parity = Parity(
        len(got),
        float(each.max()),
        float(np.median(each)),
        float(apart.mean()),
        float(((got > 0) != (wanted > 0)).mean()),
    )
    # A network that chooses where to look may choose otherwise where two scores differ by no more than rounding: of such a
    # one most patches must agree.
    distance = parity.median if exported.manifest.architecture == "transfiner" else parity.largest
    if precision == "fp32" and distance > LARGEST_FP32:
        raise WeightsError(f"{name} is not the original: {parity}; {LARGEST_FP32:g} is allowed", field="weights")
    if parity.flipped > MOST_FLIPPED.get(precision, 1.0):
        raise WeightsError(
            f"{name} says something else than the original: {parity}; {100 * MOST_FLIPPED[precision]:g} % is allowed",
            field="precision",
        )
    return parity


def sample(count: int, size: int) -> NDArray[np.float32]:
    """Patches float32 [count, 4, size, size] like those of an image: smooth colours within +-2, a mask of -1 and +1."""
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((count, 8, 8, 4)).astype(np.float32)
    smooth = np.stack([cv2.resize(each, (size, size), interpolation=cv2.INTER_LINEAR) for each in coarse])
    patches = smooth.transpose(0, 3, 1, 2)
    colours = np.clip(patches[:, :3], -2, 2)
    mask = np.where(patches[:, 3:] > 0, np.float32(1), np.float32(-1))
    return np.ascontiguousarray(np.concatenate([colours, mask], 1), np.float32)


def _reference() -> str:
    """ONNX Runtime where it is installed: what it says is nearest to the graph as written."""
    import importlib.util

    return "onnx" if importlib.util.find_spec("onnxruntime") else "openvino"
