"""Refiners: weights on a runtime, behind one call from patches to probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maskmend.models.precision import settle
from maskmend.models.registry import DEFAULT_REFINER, REFINERS
from maskmend.models.runtimes import Runtime, create_runtime
from maskmend.models.zoo import Manifest, Weights, resolve_weights
from maskmend.patcher import Rle, boundary_boxes
from maskmend.patcher.boxes import Boxes
from maskmend.patcher.errors import OptionError, RuntimeUnavailableError, WeightsError
from maskmend.patcher.evidence import DEFAULT_CALIBRATION, Calibration
from maskmend.patcher.instance_boxes import instance_boxes

if TYPE_CHECKING:
    from maskmend.models.device_looks import DeviceLooks


class NetworkRefiner:
    """A network that says of each pixel of a crop what belongs to the object. Where to crop is what refiners differ in.

    Attributes:
        patch: side in px of what the network says of a crop.
        input_size: side of the network's input, in px.
        padding: context around a crop, in image px.
        provenance: what made the masks: weights and their SHA-256, runtime, its version, precision computed in.
        calibration: the guard's tables for these weights.
        looks: whole passes on the runtime's own device (`DeviceLooks`); None for a runtime that has none.
    """

    def __init__(self, weights: Weights, runtime: Runtime) -> None:
        manifest = weights.manifest
        self.patch, self.input_size, self.padding = manifest.patch, manifest.input_size, manifest.padding
        self.provenance: dict[str, str | int | float] = {
            "refiner": manifest.refiner,
            "weights": manifest.name,
            "weights_sha256": manifest.sha256[_file_read(runtime.name, manifest)],
            "runtime": runtime.name,
            "runtime_version": runtime.version,
            "precision": runtime.precision,
        }
        self.calibration = DEFAULT_CALIBRATION
        if manifest.guard is not None:
            self.calibration = _calibration(manifest)
            self.provenance["guard_sha256"] = manifest.guard.sha256
        self._runtime = runtime
        self.looks: DeviceLooks | None = getattr(runtime, "looks", None)
        self._check()

    def boxes(self, mask: Rle, nms: float, tiles: bool = True) -> Boxes:
        """Where to look: int32 [N, 4] (x0, y0, x1, y1) in px, squares of one size; N is 0 for an empty mask.

        Args:
            mask: as it is now.
            nms: overlap of boxes that lie along a boundary; see `boundary_boxes`.
            tiles: cover an instance that is too large for one box by several; means nothing to a refiner of patches.
        """
        raise NotImplementedError

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

    @property
    def runtime(self) -> Runtime:
        """What runs the network."""
        return self._runtime

    def _check(self) -> None:
        """Run one fixed patch: damaged weights show before the first image, not in it."""
        noise = np.random.default_rng(0).standard_normal((1, 4, self.input_size, self.input_size))
        weights = f"weights {self.provenance['weights']}"
        try:
            logits = self._runtime.run(noise.astype(np.float32))
        except RuntimeUnavailableError:
            raise
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


class BoundaryRefiner(NetworkRefiner):
    """A network that judges patches along the boundary, each on its own (BPR: Tang et al., CVPR 2021, section 3)."""

    def boxes(self, mask: Rle, nms: float, tiles: bool = True) -> Boxes:
        """See `NetworkRefiner.boxes`."""
        return boundary_boxes(mask, patch=self.patch, nms=nms)


class InstanceRefiner(NetworkRefiner):
    """A network that sees the whole instance, or tiles along the boundary of a large one."""

    def boxes(self, mask: Rle, nms: float, tiles: bool = True) -> Boxes:
        """See `NetworkRefiner.boxes`, and `instance_boxes`."""
        return instance_boxes(mask, tile=self.input_size, nms=nms, tiled=tiles)


def _file_read(runtime: str, manifest: Manifest) -> str:
    """Kind of the file that decides what the network says; of OpenVINO's two the one with the numbers."""
    kinds = ("safetensors", "onnx") if runtime.startswith("torch") else ("onnx", "bin")
    return next((kind for kind in kinds if kind in manifest.sha256), next(iter(manifest.sha256)))


_CROPS: dict[str, type[NetworkRefiner]] = {"patch": BoundaryRefiner, "instance": InstanceRefiner}


def _calibration(manifest: Manifest) -> Calibration:
    assert manifest.guard is not None
    try:
        return Calibration(manifest.guard.changes, manifest.guard.instances, manifest.guard.strength)
    except OptionError as error:
        raise WeightsError(f"manifest of weights {manifest.name}: {error}", field="weights") from error


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)) of each value, float32 [...], without overflow; NaN stays NaN."""
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1, small) / (1 + small), np.float32)


def load_refiner(
    refiner: str | None = None,
    *,
    weights: str | Path | None = None,
    runtime: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    device: str | None = None,
    triton_url: str | None = None,
) -> NetworkRefiner:
    """Load a refiner.

    Args:
        refiner: one of `REFINERS`; None for that of the weights, or `bpr` without any.
        weights: name of a shipped set or a path, see `resolve_weights`; None for the refiner's own.
        runtime: `auto`, or one of `EVERY_RUNTIME`: `openvino`, `onnx`, `torch`, `tensorrt`, `triton`.
        precision: `fp32`, or another that the runtime can, see `create_runtime`; `int8` where the weights have such a form;
            `auto` for the fastest that keeps the gate. See `precision.settle`.
        threads: of the network; None takes the cores there are. The result does not depend on it.
        device: `cpu`, `cuda` or `cuda:N`; see `create_runtime`.
        triton_url: where the servers of the triton runtime are; see `create_runtime`.

    Raises:
        OptionError: an unknown name, or fewer than one thread.
        RuntimeUnavailableError: the runtime is not installed, or no Triton answers.
        WeightsError: the weights are missing, damaged or of another refiner.
    """
    if refiner is not None and refiner not in REFINERS:
        raise OptionError(f"refiner is {refiner[:64]!r}; use one of {', '.join(REFINERS)}", field="refiner")
    found = resolve_weights(REFINERS[refiner or DEFAULT_REFINER].weights if weights is None else weights)
    served = found.manifest.refiner
    if refiner is not None and served != refiner:
        raise WeightsError(f"weights {found.manifest.name} serve {served}, not {refiner}", field="weights")
    if served not in REFINERS:
        raise WeightsError(
            f"weights {found.manifest.name} serve {served[:64]!r}, which this release does not know; update maskmend",
            field="weights",
        )
    found, precision = settle(found, runtime=runtime, precision=precision, device=device)
    running = create_runtime(runtime, found, precision=precision, threads=threads, device=device, triton_url=triton_url)
    return _CROPS[REFINERS[served].crop](found, running)
