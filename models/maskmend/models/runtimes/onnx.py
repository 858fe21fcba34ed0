"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
import onnxruntime

from maskmend.models.runtimes import Batch, micro_batches
from maskmend.models.zoo import Weights

MICRO_BATCH = 8


class OnnxRuntime:
    """One session; see `Runtime`."""

    name = "onnx"

    def __init__(self, weights: Weights, *, threads: int | None = None) -> None:
        weights.verify(("onnx",))
        self.version = str(onnxruntime.__version__)
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(weights.onnx_path), options, providers=["CPUExecutionProvider"]
        )

    def run(self, batch: Batch) -> Batch:
        """See `Runtime.run`."""
        parts = [self._session.run(["logits"], {"patches": part})[0] for part in micro_batches(batch, MICRO_BATCH)]
        return np.concatenate(parts)[: len(batch)]
