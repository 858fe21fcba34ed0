"""From a PyTorch network to the files that are shipped: ONNX, safetensors, manifest, card.

The graph takes `patches` float32 [N, 4, S, S] and gives `logits` float32 [N, P, P]: foreground minus background logit,
already at the size of the patch. Whatever the network's own output looks like, runtimes see only this.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from maskmend.models.zoo import Manifest, Weights, sha256
from maskmend.patcher.errors import WeightsError

TOLERANCE = 1e-4


def margin(logits: Tensor, patch: int) -> Tensor:
    """Foreground minus background logit at the size of the patch.

    Args:
        logits: float [N, 2, s, s] (background, foreground), or [N, 1, s, s] (their difference).
        patch: side of the patch in image px.

    Returns:
        float [N, patch, patch], resized bilinearly (align_corners False) when s differs.
    """
    if logits.shape[1] == 2:
        logits = logits[:, 1:] - logits[:, :1]
    if logits.shape[-1] != patch:
        logits = functional.interpolate(logits, size=(patch, patch), mode="bilinear", align_corners=False)
    return logits[:, 0]


class MarginNetwork(nn.Module):
    """A network followed by `margin`: what is exported and what the `torch` runtime runs."""

    def __init__(self, network: nn.Module, patch: int = 64) -> None:
        super().__init__()
        self.network, self.patch = network, patch

    def forward(self, patches: Tensor) -> Tensor:
        """Map [N, 4, S, S] to [N, patch, patch]."""
        return margin(self.network(patches), self.patch)


def export_onnx(network: nn.Module, path: Path, *, input_size: int, patch: int = 64) -> None:
    """Write the ONNX graph with a dynamic batch, and compare it with PyTorch.

    Raises:
        WeightsError: ONNX Runtime and PyTorch differ by more than 1e-4 in a logit, or in the sign of one.
    """
    module = MarginNetwork(network, patch).eval()
    # The sample must not share the memory layout tricks of training.
    sample = torch.randn((2, 4, input_size, input_size), generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (sample,),
            str(path),
            input_names=["patches"],
            output_names=["logits"],
            dynamic_axes={"patches": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    check_parity(module, path, sample)


def check_parity(module: nn.Module, path: Path, sample: Tensor) -> float:
    """Largest |logit difference| between PyTorch and ONNX Runtime on a sample.

    Raises:
        WeightsError: it is above 1e-4, not a number, or a pixel changes sides.
    """
    import onnxruntime

    with torch.no_grad():
        wanted = module(sample).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    got = session.run(["logits"], {"patches": sample.numpy()})[0]
    difference = float(np.abs(got - wanted).max())
    flipped = int(np.count_nonzero((got > 0) != (wanted > 0)))
    if not difference <= TOLERANCE or flipped:
        raise WeightsError(
            f"{path.name} differs from the PyTorch network by {difference:.2e} in a logit and flips {flipped} pixels",
            field="weights",
        )
    return difference


def write_weights(
    network: nn.Module,
    out_dir: Path,
    *,
    name: str,
    architecture: str,
    arguments: dict[str, Any],
    input_size: int,
    padding: int = 0,
    license: str,
    source: str,
    card: str,
) -> Weights:
    """Write one set of weights: `NAME.onnx`, `NAME.safetensors`, `NAME.json`, `NAME.md`.

    Raises:
        WeightsError: a weight is not finite, or the ONNX graph does not agree with the network.
    """
    from safetensors.torch import save_file

    out_dir.mkdir(parents=True, exist_ok=True)
    network = network.to(memory_format=torch.contiguous_format).eval()
    state = {key: value.detach().contiguous() for key, value in network.state_dict().items()}
    for key, value in state.items():
        if not bool(torch.isfinite(value.float()).all()):
            raise WeightsError(f"weight {key} is not finite; these weights cannot be used", field="weights")
    save_file(state, out_dir / f"{name}.safetensors")
    export_onnx(network, out_dir / f"{name}.onnx", input_size=input_size)
    manifest = Manifest(
        name=name,
        architecture=architecture,
        arguments=arguments,
        input_size=input_size,
        padding=padding,
        parameters=sum(p.numel() for p in network.parameters()),
        gmac=round(count_macs(network, input_size) / 1e9, 4),
        sha256={kind: sha256(out_dir / f"{name}.{kind}") for kind in ("onnx", "safetensors")},
        license=license,
        source=source,
    )
    (out_dir / f"{name}.json").write_text(manifest.model_dump_json(indent=2) + "\n")
    (out_dir / f"{name}.md").write_text(card)
    return Weights(manifest=manifest, folder=out_dir)


@torch.no_grad()
def count_macs(network: nn.Module, input_size: int) -> int:
    """Multiply-accumulates of the convolutions for one patch."""
    total = 0

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        kernel = module.kernel_size[0] * module.kernel_size[1]
        total += output[0].numel() * module.in_channels // module.groups * kernel

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    device = next(network.parameters()).device
    network.eval()(torch.zeros((1, 4, input_size, input_size), device=device))
    for hook in hooks:
        hook.remove()
    return total
