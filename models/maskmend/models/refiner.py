"""Refiners: weights on a runtime, behind one call from patches to probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskmend.models.runtimes import Runtime, create_runtime
from maskmend.models.zoo import DEFAULT_WEIGHTS, Weights, resolve_weights
from maskmend.patcher.errors import OptionError, WeightsError

REFINERS = ("bpr",)


class BprRefiner:
    """Boundary Patch Refinement: each patch on its own (Tang et al., CVPR 2021, section 3.2).

    Attributes:
        patch: side of a patch in the image, in px.
        input_size: side of the network's input, in px.
        padding: context around a patch, in image px.
        provenance: what made the masks: weights and their SHA-256, runtime, its version, precision computed in.
    """

    def __init__(self, weights: Weights, runtime: Runtime) -> None:
        manifest = weights.manifest
        self.patch, self.input_size, self.padding = manifest.patch, manifest.input_size, manifest.padding
        self.provenance: dict[str, str | int | float] = {
            "refiner": "bpr",
            "weights": manifest.name,
            "weights_sha256": manifest.sha256["safetensors" if runtime.name == "torch" else "onnx"],
            "runtime": runtime.name,
            "runtime_version": runtime.version,
            "precision": runtime.precision,
        }
        self._runtime = runtime
        self._check()

    def forward(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Foreground probability float32 [N, P, P] of patches float32 [N, 4, S, S] made by `extract_patches`.

        A patch's result does not depend on the others in the batch.

        Raises:
            OptionError: another shape or dtype.
        """
        wanted = (4, self.input_size, self.input_size)
        if patches.dtype != np.float32 or patches.shape[1:] != wanted:
            raise OptionError(
                f"patches are {patches.dtype} {patches.shape}; give float32 [N, 4, S, S] with S = {wanted[1]}",
                field="patches",
            )
        if not len(patches):
            return np.zeros((0, self.patch, self.patch), np.float32)
        return sigmoid(self._runtime.run(patches))

    def _check(self) -> None:
        """Run one fixed patch: damaged weights show before the first image, not in it."""
        noise = np.random.default_rng(0).standard_normal((1, 4, self.input_size, self.input_size))
        weights = f"weights {self.provenance['weights']}"
        try:
            logits = self._runtime.run(noise.astype(np.float32))
        except Exception as error:  # Each library has its own for a graph that does not take such a patch.
            raise WeightsError(
                f"{weights} do not take a patch of {self.input_size} px, as their manifest says; fetch them again",
                field="weights",
            ) from error
        if logits.shape != (1, self.patch, self.patch):
            raise WeightsError(
                f"{weights} give {logits.shape} for one patch, not (1, {self.patch}, {self.patch}); fetch them again",
                field="weights",
            )
        if not np.isfinite(logits).all():
            raise WeightsError(f"{weights} give values that are not finite; they cannot be used", field="weights")


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)) in float32 without overflow; NaN stays NaN."""
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1, small) / (1 + small), np.float32)


def load_refiner(
    refiner: str = "bpr",
    *,
    weights: str | Path = DEFAULT_WEIGHTS,
    runtime: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
) -> BprRefiner:
    """Load a refiner.

    Args:
        refiner: `bpr`.
        weights: name of a shipped set or a path; see `resolve_weights`.
        runtime: `auto`, `openvino`, `onnx` or `torch`.
        precision: `fp32`, or `bf16` as a hint to OpenVINO; see `create_runtime`.
        threads: of the network; None takes the cores there are. The result does not depend on it.

    Raises:
        OptionError: an unknown name, or fewer than one thread.
        RuntimeUnavailableError: the runtime is not installed.
        WeightsError: the weights are missing, damaged or of another refiner.
    """
    if refiner not in REFINERS:
        raise OptionError(f"refiner is {refiner!r}; use one of {', '.join(REFINERS)}", field="refiner")
    found = resolve_weights(weights)
    if found.manifest.refiner != refiner:
        raise WeightsError(
            f"weights {found.manifest.name} serve {found.manifest.refiner}, not {refiner}", field="weights"
        )
    return BprRefiner(found, create_runtime(runtime, found, precision=precision, threads=threads))
