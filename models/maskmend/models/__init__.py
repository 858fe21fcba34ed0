"""Networks, weights and runtimes. Knows nothing of requests; importing it loads no runtime."""

from __future__ import annotations

from maskmend.models.refiner import BoundaryRefiner, InstanceRefiner, NetworkRefiner, load_refiner
from maskmend.models.runtimes import choose_runtime
from maskmend.models.zoo import Manifest, Weights, list_weights, resolve_weights

__all__ = [
    "BoundaryRefiner",
    "InstanceRefiner",
    "Manifest",
    "NetworkRefiner",
    "Weights",
    "choose_runtime",
    "list_weights",
    "load_refiner",
    "resolve_weights",
]
