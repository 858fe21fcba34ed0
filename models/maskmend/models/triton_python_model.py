"""Model file of Triton's python backend: the network in ONNX Runtime, run as in process.

`maskmend export --triton-repository` copies this file as `1/model.py` beside `1/model.onnx`. It stands alone: all it needs
is onnxruntime, and numpy, below 2 where the server's python backend was built for that (that of Triton 2.51 was: with
numpy 2 it answers with empty tensors). Each patch is run in a micro-batch of fixed size on one thread, whatever the request
holds and whatever the server put together: the same bits as in process with the same version of ONNX Runtime.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """What the backend calls; one object for each instance of the model."""

    def initialize(self, args: dict[str, Any]) -> None:
        """Load the network.

        Args:
            args: `model_config` as JSON, where the model lies, and on what it is to run.
        """
        config = json.loads(args["model_config"])
        self._micro_batch = int(config["parameters"]["micro_batch"]["string_value"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        providers: list[Any] = ["CPUExecutionProvider"]
        if args["model_instance_kind"] == "GPU":
            providers = [("CUDAExecutionProvider", {"device_id": int(args["model_instance_device_id"])})]
        folder = Path(args["model_repository"]) / args["model_version"]
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=providers)
        if args["model_instance_kind"] == "GPU" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise RuntimeError("this onnxruntime has no CUDA; install onnxruntime-gpu, or export without --gpu")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Logits of the patches of each request, or an error in their place."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            patches = pb_utils.get_input_tensor_by_name(request, "patches").as_numpy()
            logits = np.concatenate(
                [self._run(patches[i : i + self._micro_batch]) for i in range(0, len(patches), self._micro_batch)]
            )
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"{type(error).__name__}: {error}"))
        return pb_utils.InferenceResponse([pb_utils.Tensor("logits", logits)])

    def _run(self, patches: Any) -> Any:
        part = np.zeros((self._micro_batch, *patches.shape[1:]), np.float32)
        part[: len(patches)] = patches
        return self._session.run(["logits"], {"patches": part})[0][: len(patches)]
