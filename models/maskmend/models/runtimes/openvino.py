"""OpenVINO: the default on a CPU."""

from __future__ import annotations

import numpy as np
import openvino

from maskmend.models.runtimes import Batch, micro_batches
from maskmend.models.zoo import Weights

MICRO_BATCH = 8


class OpenVinoRuntime:
    """Compiled for one static batch; see `Runtime`."""

    name = "openvino"

    def __init__(self, weights: Weights, *, precision: str = "fp32", threads: int | None = None) -> None:
        weights.verify(("onnx",))
        self.version = str(openvino.__version__).split("-")[0]
        size = weights.manifest.input_size
        core = openvino.Core()
        graph = core.read_model(str(weights.onnx_path))
        graph.reshape([MICRO_BATCH, 4, size, size])
        # Some processors would otherwise run in bf16 on their own.
        options: dict[str, object] = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        self._request = core.compile_model(graph, "CPU", options).create_infer_request()

    def run(self, batch: Batch) -> Batch:
        """See `Runtime.run`."""
        parts = [self._request.infer([part])[0].copy() for part in micro_batches(batch, MICRO_BATCH)]
        return np.concatenate(parts)[: len(batch)]
