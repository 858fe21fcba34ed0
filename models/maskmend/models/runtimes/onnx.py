"""ONNX Runtime on the CPU."""

from __future__ import annotations

import onnxruntime

from maskmend.models.runtimes.pool import Batch, Pool
from maskmend.models.zoo import Weights
from maskmend.patcher.errors import RuntimeUnavailableError


class OnnxRuntime:
    """One session, called from every thread of the pool; see `Runtime`."""

    name = "onnx"

    def __init__(self, weights: Weights, *, threads: int) -> None:
        weights.verify(("onnx",))
        self.precision: str = weights.manifest.precision or "fp32"
        if self.precision == "bf16":
            raise RuntimeUnavailableError(
                f"weights {weights.manifest.name} compute in bf16, which ONNX Runtime cannot on a CPU; use the openvino "
                "runtime",
                field="runtime",
            )
        self.version = str(onnxruntime.__version__)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(weights.onnx_path), options, providers=["CPUExecutionProvider"]
        )
        self._pool = Pool(threads)

    def run(self, batch: Batch) -> Batch:
        """See `Runtime.run`."""
        return self._pool.run(self._run_part, batch)

    def _run_part(self, part: Batch) -> Batch:
        logits: Batch = self._session.run(["logits"], {"patches": part})[0]
        return logits
