"""An ONNX graph whose convolutions compute in int8: quantise and dequantise nodes (QDQ), fitted to real patches.

Everything is symmetric (zero point 0), weights by output channel: the one form that ONNX Runtime, OpenVINO and TensorRT all
take for int8 kernels. How good the result is only the engine can tell; see `maskmend.clients.export_gate`.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher.errors import OptionError, RuntimeUnavailableError

LEAST_PATCHES = 16
"""Fewer say too little of the range of a value."""
_BATCH = 8


def quantize_graph(source: Path, target: Path, patches: NDArray[np.float32]) -> None:
    """Write the int8 form of a float32 graph.

    Args:
        source: ONNX file with input `patches`.
        target: ONNX file to write.
        patches: float32 [N, 4, S, S] as the engine gives them to the network, N at least 16.

    Raises:
        OptionError: too few patches.
        RuntimeUnavailableError: onnx or onnxruntime is missing.
    """
    if len(patches) < LEAST_PATCHES:
        raise OptionError(
            f"calibration gives {len(patches)} patches; {LEAST_PATCHES} are the least, give more photographs with masks",
            field="calibration",
        )
    try:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"int8 needs {error.name}; pip install 'maskmend[export]'", field="precision"
        ) from error
    with TemporaryDirectory() as folder:
        # Some of its steps write beside the file they read.
        graph = _prepared(source, Path(folder))
        quantize_static(
            str(graph),
            str(target),
            _Reader(patches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
        )


def _prepared(source: Path, folder: Path) -> Path:
    """The graph with its shapes inferred; the quantiser's own preparation would fold batch norms too, and there are none."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(str(source)))
    # What it leaves in a graph that it prepared; it would log a warning otherwise.
    onnx.helper.set_model_props(graph, {"onnx.quant.pre_process": "onnxruntime.quant"})
    target = folder / "prepared.onnx"
    onnx.save(graph, str(target))
    return target


class _Reader:
    """Hands out patches in batches, as onnxruntime's calibration asks for them."""

    def __init__(self, patches: NDArray[np.float32]) -> None:
        self._patches, self._at = patches, 0

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, or None at the end."""
        part = self._patches[self._at : self._at + _BATCH]
        self._at += _BATCH
        return {"patches": np.ascontiguousarray(part)} if len(part) else None

    def rewind(self) -> None:
        """From the beginning again."""
        self._at = 0

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> dict[str, Any]:
        found = self.get_next()
        if found is None:
            raise StopIteration
        return found
