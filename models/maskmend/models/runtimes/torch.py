"""PyTorch on the CPU, from the safetensors file: for comparison and for networks under development."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import load_file

from maskmend.models.architectures import build_network
from maskmend.models.export import MarginNetwork
from maskmend.models.runtimes import Batch, micro_batches
from maskmend.models.zoo import Weights
from maskmend.patcher.errors import WeightsError

MICRO_BATCH = 8


class TorchRuntime:
    """The network itself in evaluation mode; see `Runtime`."""

    name = "torch"

    def __init__(self, weights: Weights, *, threads: int | None = None) -> None:
        weights.verify(("safetensors",))
        self.version = str(torch.__version__).split("+")[0]
        if threads is not None:
            torch.set_num_threads(threads)
        manifest = weights.manifest
        network = build_network(manifest.architecture, **manifest.arguments)
        try:
            network.load_state_dict(load_file(weights.safetensors_path))
        except RuntimeError as error:
            raise WeightsError(
                f"{weights.safetensors_path.name} does not fit the architecture {manifest.architecture}",
                field="weights",
            ) from error
        self._network = MarginNetwork(network, manifest.patch).eval()

    @torch.inference_mode()
    def run(self, batch: Batch) -> Batch:
        """See `Runtime.run`."""
        parts = [self._network(torch.from_numpy(part)).numpy() for part in micro_batches(batch, MICRO_BATCH)]
        return np.concatenate(parts)[: len(batch)]
