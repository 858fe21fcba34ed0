"""Golden vectors: patches, and what a set of weights says of them. They tell whether a runtime computes here what it should.

They lie beside the weights, in `golden/NAME.npz`: `patches`, uint8 [N, 4, S, S] (R, G, B in grey levels, mask 0 or 1),
`probabilities`, uint16 [N, P, P] (65535 is 1), and `onnx_sha256` of the weights they were computed with.
benchmarks/quality/golden.py makes them, with PyTorch in float32.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskmend.models.refiner import NetworkRefiner
from maskmend.models.zoo import Manifest, Weights
from maskmend.patcher.crops import MEAN, STD
from maskmend.patcher.errors import WeightsError

TOLERANCE = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.1, "int8": 0.2}
"""By precision asked for: how far a probability may lie from the golden one."""
BEYOND = {"fp32": 0.0, "bf16": 0.005, "fp16": 0.005, "int8": 0.005}
"""By precision: share of pixels that may lie farther."""
CHOOSY = 0.02
"""That share for a network that chooses where to look: two scores that differ by rounding may be chosen otherwise."""
_FULL = 65535
_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class Golden:
    """Patches and what should come out.

    Attributes:
        patches: uint8 [N, 4, S, S], R, G, B in grey levels and the mask as 0 or 1.
        probabilities: float32 [N, P, P], foreground.
    """

    patches: NDArray[np.uint8]
    probabilities: NDArray[np.float32]

    @property
    def inputs(self) -> NDArray[np.float32]:
        """Patches as `extract_patches` gives them: float32 [N, 4, S, S]."""
        scale = (1.0 / np.array(STD)).astype(np.float32)[:, None, None]
        shift = (-np.array(MEAN) / np.array(STD)).astype(np.float32)[:, None, None]
        made = np.empty(self.patches.shape, np.float32)
        made[:, :3] = self.patches[:, :3].astype(np.float32) * scale + shift
        made[:, 3] = self.patches[:, 3].astype(np.float32) * 2 - 1
        return made


@dataclass(frozen=True)
class Agreement:
    """How near a refiner comes to golden probabilities.

    Attributes:
        largest: largest difference of a probability.
        beyond: share of pixels that differ by more than `tolerance`.
        tolerance: see `TOLERANCE`.
        most: what `beyond` may be at most.
        computed: precision that was computed in, as the runtime says.
    """

    largest: float
    beyond: float
    tolerance: float
    most: float
    computed: str

    @property
    def passed(self) -> bool:
        """Whether it is near enough."""
        return self.beyond <= self.most


def golden_file(weights: Weights) -> Path:
    """Where the golden vectors of a set of weights lie, if it has some."""
    return weights.folder / "golden" / f"{weights.manifest.name}.npz"


def read_golden(weights: Weights) -> Golden | None:
    """The golden vectors of a set of weights; None where it has none.

    Raises:
        WeightsError: they are damaged, or of other weights.
    """
    file, manifest = golden_file(weights), weights.manifest
    if not file.is_file():
        return None
    try:
        with zipfile.ZipFile(file) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > _MOST_BYTES:
                raise ValueError("too large")
        with np.load(file, allow_pickle=False) as arrays:
            patches, stored, digest = arrays["patches"], arrays["probabilities"], str(arrays["onnx_sha256"])
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"golden vectors {file.name} cannot be read; install maskmend again", field="weights"
        ) from error
    if digest != manifest.sha256.get("onnx"):
        raise WeightsError(
            f"golden vectors {file.name} are of other weights; make them anew with benchmarks/quality/golden.py",
            field="weights",
        )
    size, side = manifest.input_size, manifest.patch
    wanted = ((len(patches), 4, size, size), (len(patches), side, side))
    if (patches.dtype, stored.dtype) != (np.uint8, np.uint16) or (patches.shape, stored.shape) != wanted:
        raise WeightsError(f"golden vectors {file.name} do not have the manifest's shapes", field="weights")
    return Golden(patches, stored.astype(np.float32) / _FULL)


def write_golden(weights: Weights, patches: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> Path:
    """Write golden vectors beside a set of weights.

    Args:
        weights: they are of.
        patches: uint8 [N, 4, S, S], see `Golden`.
        probabilities: float32 [N, P, P].
    """
    file = golden_file(weights)
    file.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        file,
        patches=patches,
        probabilities=np.rint(probabilities * _FULL).astype(np.uint16),
        onnx_sha256=np.array(weights.manifest.sha256["onnx"]),
    )
    return file


def agree(golden: Golden, refiner: NetworkRefiner, manifest: Manifest, precision: str) -> Agreement:
    """Hold a refiner against golden vectors.

    Args:
        golden: of the weights that the refiner was loaded with, or that its int8 form was made from.
        refiner: on any runtime.
        manifest: of those weights.
        precision: that was asked for, one of `TOLERANCE`; one that was computed in fp32 after all is close all the more.
    """
    apart = np.abs(refiner.forward(golden.inputs) - golden.probabilities)
    # What is not finite is far.
    apart = np.where(np.isfinite(apart), apart, np.float32(1))
    tolerance = TOLERANCE[precision]
    return Agreement(
        float(apart.max()),
        float((apart > tolerance).mean()),
        tolerance,
        CHOOSY if manifest.architecture == "transfiner" else BEYOND[precision],
        str(refiner.provenance["precision"]),
    )
