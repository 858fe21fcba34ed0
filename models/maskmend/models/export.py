"""From a PyTorch network to the files that are shipped: ONNX, safetensors, manifest, card.

The graph takes `patches` float32 [N, 4, S, S] and gives `logits` float32 [N, P, P]: foreground minus background logit,
already at the size of the patch. Whatever the network's own output looks like, runtimes see only this.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from maskmend.models.hrnet import resize
from maskmend.models.zoo import Manifest, Weights, check_name, sha256
from maskmend.patcher.errors import WeightsError

TOLERANCE = 1e-4


def margin(logits: Tensor, patch: int, padding: int = 0) -> Tensor:
    """Foreground minus background logit at the size of the patch.

    Args:
        logits: float [N, 2, s, s] (background, foreground), or [N, 1, s, s] (their difference).
        patch: side of the patch in image px.
        padding: context around the patch in image px, which the logits cover too and the result does not.

    Returns:
        float [N, patch, patch], resized bilinearly (align_corners False) when s differs.
    """
    if logits.shape[1] == 2:
        logits = logits[:, 1:] - logits[:, :1]
    whole = patch + 2 * padding
    if logits.shape[-1] != whole:
        logits = resize(logits, whole, whole)
    if padding:
        logits = logits[:, :, padding : padding + patch, padding : padding + patch]
    return logits.squeeze(1)


class MarginNetwork(nn.Module):
    """A network followed by `margin`: what is exported and what the `torch` runtime runs.

    A network that leaves the context out of its logits itself says so by an attribute `padding`.

    Raises:
        WeightsError: the network leaves out more than there is.
    """

    def __init__(self, network: nn.Module, patch: int = 64, padding: int = 0) -> None:
        super().__init__()
        self.network, self.patch = network, patch
        self.padding = padding - int(getattr(network, "padding", 0))
        if self.padding < 0:
            raise WeightsError(f"padding is {padding} px but the network is built for more", field="padding")

    def forward(self, patches: Tensor) -> Tensor:
        """Map [N, 4, S, S] to [N, patch, patch]."""
        return margin(self.network(patches), self.patch, self.padding)


def export_onnx(network: nn.Module, path: Path, *, input_size: int, patch: int = 64, padding: int = 0) -> None:
    """Write the ONNX graph with a dynamic batch, and compare it with PyTorch.

    Raises:
        WeightsError: ONNX Runtime and PyTorch differ by more than 1e-4 in a logit.
    """
    module = MarginNetwork(network, patch, padding).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (sample_patches(2, input_size),),
            str(path),
            input_names=["patches"],
            output_names=["logits"],
            dynamic_axes={"patches": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    # Another batch than the one traced: a batch fixed in the graph by accident shows here.
    check_parity(module, path, sample_patches(7, input_size))


def sample_patches(count: int, size: int) -> Tensor:
    """Patches float32 [count, 4, size, size] like those of an image: smooth colours within +-2, a mask of -1 and +1."""
    coarse = torch.randn((count, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    patches = functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)
    patches[:, :3].clamp_(-2, 2)
    patches[:, 3] = torch.where(patches[:, 3] > 0, 1.0, -1.0)
    return patches


def check_parity(module: nn.Module, path: Path, sample: Tensor) -> float:
    """Largest |logit difference| between PyTorch and ONNX Runtime on a sample, float32 [N, 4, S, S].

    Raises:
        WeightsError: it is above 1e-4, or a value is not finite. A logit within 1e-4 of zero may change its sign.
    """
    import onnxruntime

    with torch.no_grad():
        wanted = module(sample).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    got = session.run(["logits"], {"patches": sample.numpy()})[0]
    if not (np.isfinite(wanted).all() and np.isfinite(got).all()):
        raise WeightsError("the network gives values that are not finite; they cannot be used", field="weights")
    if got.shape != wanted.shape:
        raise WeightsError(f"{path.name} gives {got.shape} where PyTorch gives {wanted.shape}", field="weights")
    # A network that chooses where to look may choose otherwise where two scores differ by no more than rounding, and then
    # says something else there: of such a one most samples must agree.
    each = np.abs(got - wanted).reshape(len(got), -1).max(axis=1)
    difference = float(np.median(each) if getattr(module.network, "chooses", False) else each.max())
    if difference > TOLERANCE:
        raise WeightsError(
            f"{path.name} differs from the PyTorch network by {difference:.2e} in a logit", field="weights"
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
    refiner: str = "bpr",
    patch: int = 64,
    license: str,
    source: str,
    card: str,
) -> Weights:
    """Write one set of weights: `NAME.onnx`, `NAME.safetensors`, `NAME.json`, `NAME.md`.

    A set of that name which is there already stays as it is when this one turns out unusable.

    Raises:
        OptionError: `name` is not a plain name.
        WeightsError: a weight is not finite, or the ONNX graph does not agree with the network.
    """
    from safetensors.torch import save

    check_name(name)
    out_dir.mkdir(parents=True, exist_ok=True)
    network = network.to(memory_format=torch.contiguous_format).eval()
    state = {key: value.detach().contiguous() for key, value in network.state_dict().items()}
    for key, value in state.items():
        if not bool(torch.isfinite(value.float()).all()):
            raise WeightsError(f"weight {key} is not finite; these weights cannot be used", field="weights")
    with tempfile.TemporaryDirectory(dir=out_dir) as temporary:
        folder = Path(temporary)
        # Its own writer makes a file that only the owner can read.
        (folder / f"{name}.safetensors").write_bytes(save(state))
        export_onnx(network, folder / f"{name}.onnx", input_size=input_size, patch=patch, padding=padding)
        manifest = Manifest(
            name=name,
            refiner=refiner,
            architecture=architecture,
            arguments=arguments,
            input_size=input_size,
            patch=patch,
            padding=padding,
            parameters=sum(p.numel() for p in network.parameters()),
            gmac=round(count_macs(network, input_size) / 1e9, 4),
            sha256={kind: sha256(folder / f"{name}.{kind}") for kind in ("onnx", "safetensors")},
            license=license,
            source=source,
        )
        (folder / f"{name}.md").write_text(card, encoding="utf-8")
        (folder / f"{name}.json").write_text(
            manifest.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8"
        )
        for kind in ("safetensors", "onnx", "md", "json"):
            (folder / f"{name}.{kind}").replace(out_dir / f"{name}.{kind}")
    return Weights(manifest=manifest, folder=out_dir)


@torch.no_grad()
def count_macs(network: nn.Module, input_size: int) -> int:
    """Multiply-accumulates for one patch: convolutions, linear layers and attention."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    patch = torch.zeros((1, 4, input_size, input_size), device=next(network.parameters()).device)
    # The fused attention of a CPU is not counted; the plain one gives the same products.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network.eval()(patch)
    return int(counter.get_total_flops()) // 2
