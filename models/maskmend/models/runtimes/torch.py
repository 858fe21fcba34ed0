"""PyTorch on the CPU, from the safetensors file: for comparison and for networks under development."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from maskmend.models.architectures import build_network
from maskmend.models.export import MarginNetwork
from maskmend.models.runtimes.pool import Batch, Pool
from maskmend.models.zoo import Weights
from maskmend.patcher.errors import WeightsError


class TorchRuntime:
    """The network itself in evaluation mode; see `Runtime`."""

    name = "torch"
    precision = "fp32"

    def __init__(self, weights: Weights, *, threads: int) -> None:
        weights.verify(("safetensors",))
        self.version = str(torch.__version__).split("+")[0]
        manifest = weights.manifest
        network = build_network(manifest.architecture, **manifest.arguments)
        try:
            network.load_state_dict(load_file(weights.safetensors_path))
        except RuntimeError as error:
            raise WeightsError(
                f"{weights.safetensors_path.name} does not fit the architecture {manifest.architecture}",
                field="weights",
            ) from error
        self._network = MarginNetwork(network, manifest.patch, manifest.padding).eval()
        # Counts for the thread that calls it: the caller's own PyTorch keeps its threads.
        self._pool = Pool(threads, prepare=lambda: torch.set_num_threads(1))

    def run(self, batch: Batch) -> Batch:
        """See `Runtime.run`."""
        return self._pool.run(self._run_part, batch)

    @torch.inference_mode()
    def _run_part(self, part: Batch) -> Batch:
        logits: Batch = self._network(torch.from_numpy(part)).numpy()
        return logits
