"""One thing tried, in a process of its own, that `examine` starts with the arguments AREA ARGUMENT...

Prints one JSON object a line, a `Check` each, and as its last word `{"done": true}`. Whatever libraries print goes to
standard error.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from maskmend.clients.doctor.findings import Check
from maskmend.patcher.errors import MaskmendError, OptionError, RuntimeUnavailableError

KEY_VARIABLE = "MASKMEND_API_KEY"
MODULES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch", "tensorrt": "tensorrt"}
"""Runtimes of this machine, and the module that each needs."""
INSTALL = {
    "openvino": "pip install 'maskmend[cpu]'",
    "onnx": "pip install 'maskmend[onnx]'",
    "torch": "pip install -c constraints.txt 'maskmend[train]'",
    "tensorrt": "pip install tensorrt",
    "triton": "pip install 'maskmend[triton]'",
}
MADE_TO = {"openvino": ("fp32", "bf16", "int8"), "torch-cuda": ("fp32", "bf16", "fp16")}
"""Precisions that are tried; fp32 alone of the others."""

_ANEW = "pip install --force-reinstall --no-cache-dir --no-deps maskmend (a file of its weights is damaged)"


def again(runtime: str) -> str:
    """The line that installs a runtime once more."""
    return INSTALL[runtime].replace("pip install", "pip install --force-reinstall --no-cache-dir")


def geometry() -> Iterator[Check]:
    """The compiled kernels: a mask through run lengths, boxes, crops and back."""
    import numpy as np

    from maskmend.patcher import Rle, boundary_boxes, extract_patches, reassemble

    rows, columns = np.indices((120, 160))
    disk = (rows - 60) ** 2 + (columns - 80) ** 2 < 40**2
    mask = Rle.from_dense(disk)
    boxes = boundary_boxes(mask)
    patches = extract_patches(np.zeros((120, 160, 3), np.uint8), mask, boxes, size=64)
    # A network that says what the mask says changes nothing.
    same = reassemble(mask, boxes, (patches[:, 3] + 1) / 2) == mask
    right = same and bool((mask.to_dense() == disk).all()) and len(boxes) > 2
    yield Check(
        "geometry",
        "kernels",
        "works" if right else "broken",
        f"{len(boxes)} boxes round a disk, and the disk again" if right else "a mask does not come back as it went in",
        "" if right else "pip install --force-reinstall --no-cache-dir numba numpy maskmend",
    )


def weights(*names: str) -> Iterator[Check]:
    """Files of weights against the SHA-256 of their manifests."""
    from maskmend.models import list_weights, resolve_weights
    from maskmend.models.zoo import SHIPPED

    for name in names or [found.manifest.name for found in list_weights()]:
        try:
            found = resolve_weights(name)
            forms = [("", found)]
            form = found.in_precision("int8")
            if form is not None:
                forms.append((" int8", form))
        except MaskmendError as error:
            yield _failed("weights", str(name)[-80:], error)
            continue
        for suffix, each in forms:
            label = each.manifest.name + suffix
            try:
                each.verify()
            except MaskmendError as error:
                ours = each.folder.is_relative_to(SHIPPED)
                yield _failed("weights", label, error, _ANEW if ours else "")
                continue
            short = ", ".join(f"{kind} {digest[:12]}" for kind, digest in each.manifest.sha256.items())
            yield Check("weights", label, "works", f"SHA-256 right: {short}", facts={"sha256": each.manifest.sha256})


def runtime(name: str, *names: str) -> Iterator[Check]:
    """One runtime: golden patches of each set of weights, in each precision. PyTorch on a GPU too, where there is one."""
    if importlib.util.find_spec(MODULES[name]) is None:
        # What needs a GPU is recommended to nobody who may have none.
        remedy = "" if name == "tensorrt" else f"{INSTALL[name]} (for the {name} runtime)"
        yield Check("runtime", name, "missing", "not installed", remedy)
        return
    from maskmend.models import list_weights

    every = names or [found.manifest.name for found in list_weights()]
    for label in (name, "torch-cuda") if name == "torch" and _has_gpu() else (name,):
        for each in every:
            for precision in MADE_TO.get(label, ("fp32",)):
                device = "cuda" if label == "torch-cuda" else None
                yield from _tried("runtime", label, each, precision, runtime=name, device=device)


def triton(url: str, *names: str) -> Iterator[Check]:
    """Triton servers: golden patches of each set of weights."""
    for each in names or ("bpr-small",):
        yield from _tried("triton", "triton", each, "fp32", runtime="triton", triton_url=url)


def server(url: str, timeout: str, ca_file: str = "") -> Iterator[Check]:
    """A server: a small picture refined there."""
    import numpy as np

    from maskmend.clients import Client, Retries

    mask = np.zeros((16, 16), bool)
    mask[4:12, 4:12] = True
    image = np.repeat(mask[:, :, None] * np.uint8(255), 3, axis=2)
    key = os.environ.get(KEY_VARIABLE) or None
    began = time.monotonic()
    try:
        with Client(url, timeout=float(timeout), retries=Retries(0), api_key=key, verify=ca_file or True) as client:
            facts = dict(client.refine(image, mask).provenance)
    except MaskmendError as error:
        yield _failed("server", "server", error, _server_remedy(error))
        return
    seconds = round(time.monotonic() - began, 3)
    said = f"answers in {seconds:.2f} s: {facts.get('weights')} on {facts.get('runtime')}, {facts.get('precision')}"
    yield Check("server", "server", "works", said, facts={**facts, "seconds": seconds})


def _server_remedy(error: MaskmendError) -> str:
    if error.code == "unauthorized":
        return f"give the server's key with --api-key or {KEY_VARIABLE}"
    if isinstance(error, OptionError):
        return str(error)
    return "is the address right, and does `maskmend serve` run there? See its /healthz/ready"


def _tried(area: str, label: str, name: str, precision: str, **options: Any) -> Iterator[Check]:
    from maskmend.models import load_refiner, resolve_weights
    from maskmend.models.self_test import agree, read_golden

    shown = name if "/" not in name and "\\" not in name else name[-60:]
    title = f"{label} {shown} {precision}"
    began = time.monotonic()
    try:
        found = resolve_weights(name)
        if precision == "int8" and found.in_precision("int8") is None:
            return
        golden = read_golden(found)
        refiner = load_refiner(weights=name, precision=precision, threads=None if area == "triton" else 1, **options)
        agreement = None if golden is None else agree(golden, refiner, found.manifest, precision)
    except RuntimeUnavailableError as error:
        yield _failed(area, title, error, INSTALL["triton"] if "not installed" in str(error) else "")
        return
    except MaskmendError as error:
        yield _failed(area, title, error)
        return
    seconds = round(time.monotonic() - began, 3)
    facts: dict[str, Any] = {
        "runtime": label,
        "weights": found.manifest.name,
        "precision": precision,
        "seconds": seconds,
    }
    if agreement is None:
        said = "one patch went through; these weights bring no golden vectors to compare with"
        yield Check(area, title, "works", said, facts={**facts, "computed": refiner.provenance["precision"]})
        return
    facts |= {
        "computed": agreement.computed,
        "largest": agreement.largest,
        "beyond": agreement.beyond,
        "tolerance": agreement.tolerance,
        "most": agreement.most,
    }
    said = f"within {agreement.largest:.1e} of the golden probabilities, {agreement.tolerance:g} is allowed"
    if agreement.beyond:
        said += f" but for {100 * agreement.most:g} % of the pixels; {100 * agreement.beyond:.2f} % are farther"
    if agreement.computed != precision and precision != "int8":
        said += f"; computed in {agreement.computed}"
    if agreement.passed:
        yield Check(area, title, "works", said, facts=facts)
        return
    remedy = f"{label} computes something else here than it should: use another --runtime, and report this with --json"
    if precision != "fp32":
        remedy = f"{label} in {precision} is too far off on this processor: use --precision fp32 with it"
    yield Check(area, title, "broken", said, remedy, facts)


def _has_gpu() -> bool:
    try:
        import torch
    except (ImportError, OSError):
        # It is said of each set of weights.
        return False
    return bool(torch.cuda.is_available())


def _failed(area: str, name: str, error: MaskmendError, remedy: str = "") -> Check:
    return Check(area, name, "broken", str(error)[:500], remedy or str(error)[:500], {"code": error.code})


AREAS: dict[str, Callable[..., Iterator[Check]]] = {
    "geometry": geometry,
    "weights": weights,
    "runtime": runtime,
    "triton": triton,
    "server": server,
}


def main() -> None:
    """Try what the arguments name."""
    # Libraries print where they like; the results go where they do not.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    area, *arguments = sys.argv[1:]
    for check in AREAS[area](*arguments):
        said = {
            "name": check.name,
            "state": check.state,
            "said": check.said,
            "remedy": check.remedy,
            "facts": check.facts,
        }
        answers.write(json.dumps(said) + "\n")
        answers.flush()
    answers.write('{"done": true}\n')
    answers.close()
    # What a library does at its end is of no interest here, and has been seen to hang.
    os._exit(0)
