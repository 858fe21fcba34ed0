"""PyTorch on the CPU, from the safetensors file: for comparison and for networks under development."""

from __future__ import annotations

import torch

from maskmend.models.architectures import load_network
from maskmend.models.export import MarginNetwork
from maskmend.models.runtimes.pool import Batch, Pool
from maskmend.models.zoo import Weights


class TorchRuntime:
    """The network itself in evaluation mode; see `Runtime`."""

    name = "torch"
    precision = "fp32"

    def __init__(self, weights: Weights, *, threads: int) -> None:
        self.version = str(torch.__version__).split("+")[0]
        manifest, network = weights.manifest, load_network(weights)
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
