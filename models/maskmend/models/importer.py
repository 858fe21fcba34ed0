"""Official BPR checkpoints into safetensors, ONNX, manifest and model card.

The only place where a pickle is read, and then by PyTorch's restricted loader, which builds tensors and plain values
and runs nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskmend.models.architectures import build_network
from maskmend.models.export import write_weights
from maskmend.models.hrnet import CONFIGS
from maskmend.models.zoo import Weights, check_name, sha256
from maskmend.patcher.errors import WeightsError

OFFICIAL = ("hrnet_w18_small", "hrnet_w48")
"""Networks that BPR's authors published weights of."""
_FORBIDDEN = re.compile(r"GLOBAL ([\w.]{1,80})")


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
    own = network.state_dict()
    # These counts play no part in what the network gives, and old files may lack them.
    state = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")} | state
    wrong = sorted(own.keys() ^ state.keys()) or [key for key in own if own[key].shape != state[key].shape]
    if wrong:
        raise WeightsError(
            f"{path.name} looks like {architecture} but differs from it in {len(wrong)} entries, such as "
            f"{wrong[0][:80]}; only unmodified BPR networks can be imported",
            field="checkpoint",
        )
    network.load_state_dict(state)
    digest, size = sha256(path), CONFIGS[architecture].input_size
    return write_weights(
        network,
        out_dir,
        name=name,
        architecture=architecture,
        arguments={},
        input_size=size,
        padding=0,
        license="NOASSERTION",
        source=f"imported from {path.name}, SHA-256 {digest}",
        card=_card(name, path.name, digest, architecture, size),
    )


def _state(path: Path) -> dict[str, Tensor]:
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}", field="checkpoint") from error
    except Exception as error:  # Damaged bytes make the loader stumble in many ways, IndexError among them.
        forbidden = _FORBIDDEN.search(str(error))
        if forbidden:
            raise WeightsError(
                f"{path.name} asks for {forbidden[1]}, which is neither a tensor nor a plain value: reading it could run "
                "code, so it is refused. If you trust the file, save {'state_dict': network.state_dict()} from the code "
                "that made it, and import that",
                field="checkpoint",
            ) from error
        raise WeightsError(
            f"{path.name} is damaged, or is no PyTorch checkpoint; fetch it again", field="checkpoint"
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path.name} holds no state_dict of tensors", field="checkpoint")
    for key, value in state.items():
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_complex() or value.is_quantized:
            raise WeightsError(f"entry {str(key)[:80]} is not a dense tensor of real numbers", field="checkpoint")
    # Distributed training leaves a prefix on every name.
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _architecture(state: dict[str, Tensor]) -> str:
    weight = state.get("decode_head.conv_seg.weight")
    if weight is not None and weight.ndim == 4 and "backbone.conv_mask.weight" in state:
        for name in OFFICIAL:
            if weight.shape[1] == sum(CONFIGS[name].channels):
                return name
    raise WeightsError(
        "the checkpoint is neither BPR's HRNet W18-Small nor W48: decode_head.conv_seg and backbone.conv_mask must be "
        "there, with 270 or 720 channels",
        field="checkpoint",
    )


def _card(name: str, file: str, digest: str, architecture: str, input_size: int) -> str:
    return f"""# {name}

Imported by `maskmend models import` from `{file}` (SHA-256 `{digest}`), a checkpoint of the official code of Boundary
Patch Refinement (Tang et al., CVPR 2021): `{architecture}`, {input_size}x{input_size} input. Not made or measured by
maskmend; its licence, training data and figures are its publisher's.
"""
