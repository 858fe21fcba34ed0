"""Official BPR checkpoints into safetensors, ONNX, manifest and model card.

The only place where a pickle is read, and then by PyTorch's restricted loader, which builds tensors and plain values and
runs nothing else.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskmend.models.architectures import build_network
from maskmend.models.export import write_weights
from maskmend.models.hrnet import CONFIGS
from maskmend.models.zoo import Weights, check_name
from maskmend.patcher.errors import WeightsError


def import_checkpoint(path: Path, out_dir: Path, name: str) -> Weights:
    """Turn a checkpoint of BPR's official code into a set of weights.

    Args:
        path: file with `state_dict` (or a bare state dict); module names as the official code has them.
        out_dir: folder for the four files.
        name: of the weights.

    Raises:
        OptionError: `name` is not a plain name.
        WeightsError: the file cannot be read safely, is no BPR network, or holds values that are not finite.
    """
    check_name(name)
    state = _state(path)
    architecture = _architecture(state)
    network = build_network(architecture)
    missing, unexpected = network.load_state_dict(state, strict=False)
    wrong = [key for key in missing if not key.endswith("num_batches_tracked")] + list(unexpected)
    if wrong:
        raise WeightsError(
            f"{path.name} looks like {architecture} but differs from it in {len(wrong)} entries, such as "
            f"{wrong[0][:80]}; only unmodified BPR networks can be imported",
            field="checkpoint",
        )
    config = CONFIGS[architecture]
    return write_weights(
        network,
        out_dir,
        name=name,
        architecture=architecture,
        arguments={},
        input_size=config.input_size,
        license="as its publisher says",
        source=f"imported from {path.name}",
        card=_card(name, path.name, architecture, config.input_size),
    )


def _state(path: Path) -> dict[str, Tensor]:
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}", field="checkpoint") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path.name} is damaged, or holds more than tensors and plain values; such a file could run code and is not "
            "read. Save it again as {'state_dict': network.state_dict()} where you trust it",
            field="checkpoint",
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path.name} holds no state_dict of tensors", field="checkpoint")
    # Distributed training leaves a prefix on every name.
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _architecture(state: dict[str, Tensor]) -> str:
    weight = state.get("decode_head.conv_seg.weight")
    if weight is not None and weight.ndim == 4 and "backbone.conv_mask.weight" in state:
        for name, config in CONFIGS.items():
            if weight.shape[1] == sum(config.channels):
                return name
    raise WeightsError(
        "the checkpoint is neither BPR's HRNet W18-Small nor W48: decode_head.conv_seg and backbone.conv_mask must be there",
        field="checkpoint",
    )


def _card(name: str, file: str, architecture: str, input_size: int) -> str:
    return f"""# {name}

Imported by `maskmend models import` from `{file}`, a checkpoint of the official code of Boundary Patch Refinement (Tang
et al., CVPR 2021): `{architecture}`, {input_size}x{input_size} input. Not made or measured by maskmend; its licence,
training data and figures are its publisher's.
"""
