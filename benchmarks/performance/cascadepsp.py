"""The pip package `segmentation-refinement` (CascadePSP, Cheng et al., CVPR 2020) with random weights: for time only.

    pip install --no-deps segmentation-refinement    # into an environment of its own, beside PyTorch

The package fetches its weights when its `Refiner` is made. That is left out here: the network is built as it is, and handed
to the function that `Refiner.refine` hands it to. The two lines around it (normalise the image, the mask) are the
same arithmetic without torchvision, which the package imports for them alone. Masks that come out mean nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

PACKAGE = "segmentation_refinement"
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass
class Package:
    """The package's refinement.

    Attributes:
        refine: gives grey levels uint8 [H, W] of an image uint8 [H, W, 3] RGB and a mask bool [H, W].
        calls: of the network so far.
    """

    refine: Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.uint8]]
    calls: int = 0


def available() -> bool:
    """Whether the package and PyTorch are installed."""
    return find_spec(PACKAGE) is not None and find_spec("torch") is not None


def load(threads: int) -> Package:
    """The package's refinement at its defaults (both steps, L = 900), on random weights.

    Args:
        threads: of PyTorch, in the whole process.

    Raises:
        ImportError: the package is not installed.
    """
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    helper, network = _module("eval_helper"), _module("models.psp.pspnet").RefinementModule().eval()

    @torch.inference_mode()
    def refine(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
        colour = torch.from_numpy(((image / np.float32(255) - MEAN) / STD).transpose(2, 0, 1).copy())[None]
        cue = torch.from_numpy(mask.astype(np.float32) * 2 - 1)[None, None]
        found = helper.process_high_res_im(network, colour, cue, 900)
        return np.asarray((found[0, 0].numpy() * 255).astype(np.uint8))

    package = Package(refine)

    def count(*_: object) -> None:
        package.calls += 1

    network.register_forward_hook(count)
    return package


def _module(name: str) -> Any:
    """A module of the package without running the package's own `__init__`, which wants torchvision."""
    if PACKAGE not in sys.modules:
        found = find_spec(PACKAGE)
        if found is None or found.submodule_search_locations is None:
            raise ImportError(
                f"{PACKAGE} is not installed; pip install --no-deps segmentation-refinement", name=PACKAGE
            )
        package = ModuleType(PACKAGE)
        package.__path__ = list(found.submodule_search_locations)
        sys.modules[PACKAGE] = package
    return import_module(f"{PACKAGE}.{name}")
