"""OpenVINO: the default on a CPU."""

from __future__ import annotations

from functools import lru_cache
from queue import SimpleQueue

import numpy as np
import openvino
from openvino.frontend import FrontEndManager

from maskmend.models.runtimes.pool import MICRO_BATCH, Batch, Pool
from maskmend.models.zoo import Weights

INT8_BATCH = 8
"""Micro-batch of a graph in int8, where what a call costs besides its patches weighs more; 16 would seldom be filled."""

# The library sets up its access to numpy when it is first used. Two threads that use it first at the same time wait for one
# another for ever, one with Python's lock in hand; so it is used here, where the lock of the import lets one thread through.
_FIRST_USE = openvino.Tensor(np.zeros(1, np.float32)).data


@lru_cache(maxsize=1)
def _core() -> openvino.Core:
    """The one core of the process, never released.

    Its CPU plugin gives the thread that loads it an alternate signal stack, and frees that memory with the last reference.
    Where another thread drops that one, the stack is not taken back, and the next signal with a Python handler (a child that
    ends, Ctrl-C) kills the process.
    """
    return openvino.Core()


def read_graph(weights: Weights) -> openvino.Model:
    """The graph of a set of weights: its ONNX file, or OpenVINO's own two files where it was exported as those.

    Raises:
        WeightsError: a file is missing or does not have the SHA-256 of the manifest.
    """
    own = "onnx" not in weights.manifest.sha256 and "xml" in weights.manifest.sha256
    weights.verify(("xml", "bin") if own else ("onnx",))
    # Left to itself, OpenVINO tries the reader of every format on a file; only this one is meant.
    reader = FrontEndManager().load_by_framework("ir" if own else "onnx")
    # Mapped into memory, a file that is written anew would end the process that serves it.
    return reader.convert(reader.load(str(weights.file("xml" if own else "onnx")), enable_mmap=False))


class OpenVinoRuntime:
    """Compiled for one static batch, one single-threaded stream per thread of the pool; see `Runtime`."""

    name = "openvino"

    def __init__(self, weights: Weights, *, precision: str = "fp32", threads: int) -> None:
        self.version = str(openvino.__version__).split("-")[0]
        size = weights.manifest.input_size
        graph = read_graph(weights)
        micro = INT8_BATCH if weights.manifest.precision == "int8" else MICRO_BATCH
        graph.reshape([micro, 4, size, size])
        options: dict[str, object] = {
            # Some processors would otherwise run in bf16 on their own.
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": threads,
            # Pinned, several processes of one thread each would all sit on core 0.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = _core().compile_model(graph, "CPU", options)
        computed = "bf16" if compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.bf16 else "fp32"
        graphs = weights.manifest.precision or "fp32"
        # What an exported graph fixes stays so; the hint is for the rest of it.
        self.precision = computed if graphs == "fp32" else graphs if computed == "fp32" else f"{graphs}+{computed}"
        # It makes fewer streams than asked for where there are fewer cores.
        streams = min(threads, int(compiled.get_property("NUM_STREAMS")))
        self._requests: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        for _ in range(streams):
            self._requests.put(compiled.create_infer_request())
        self._pool = Pool(streams, micro=micro)

    def run(self, batch: Batch) -> Batch:
        """See `Runtime.run`."""
        return self._pool.run(self._run_part, batch)

    def _run_part(self, part: Batch) -> Batch:
        request = self._requests.get()
        try:
            # The result lives in the request, which goes on to the next micro-batch.
            logits: Batch = request.infer([part], share_inputs=True)[0].copy()
        finally:
            self._requests.put(request)
        return logits
