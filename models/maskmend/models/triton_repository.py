"""A model repository for NVIDIA Triton: `NAME/config.pbtxt` and `NAME/1/` with the network.

The configuration carries the SHA-256 of the weights, which the `triton` runtime compares with those it is to use.
"""

from __future__ import annotations

import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from maskmend.models.runtimes.pool import MICRO_BATCH
from maskmend.models.runtimes.triton_model import INPUT, OUTPUT, PRECISION_KEY, SHA_KEY, graph_sha256
from maskmend.models.zoo import Weights
from maskmend.patcher.errors import JobError, OptionError

BACKENDS = ("onnxruntime", "openvino", "tensorrt", "python")
_FILES = {"onnxruntime": "model.onnx", "openvino": "model.onnx", "tensorrt": "model.plan", "python": "model.onnx"}
_MOST_INSTANCES, _MOST_BATCH = 64, 4096
_QUEUE = 1024
"""Requests that may wait in Triton; more are refused at once, and tried elsewhere or later."""


@dataclass(frozen=True, slots=True)
class RepositoryOptions:
    """How Triton is to run a network.

    Attributes:
        backend: one of `BACKENDS`.
        instances: copies that run at the same time, on each GPU or all together on the CPU.
        max_batch: most patches run together; at least 8, the size of a request.
        gpu: run on every GPU of the server.
    """

    backend: str = "onnxruntime"
    instances: int = 1
    max_batch: int = 32
    gpu: bool = False

    def check(self, weights: Weights) -> None:
        """Say what cannot be.

        Raises:
            OptionError: a value out of range, or two that do not go together, or weights without the file that is needed.
        """
        if self.backend not in BACKENDS:
            raise OptionError(f"backend is {self.backend[:40]!r}; use one of {', '.join(BACKENDS)}", field="backend")
        if not 1 <= self.instances <= _MOST_INSTANCES:
            raise OptionError(f"instances is {self.instances}; use 1 to {_MOST_INSTANCES}", field="instances")
        least = 2 * MICRO_BATCH
        if not least <= self.max_batch <= _MOST_BATCH or self.max_batch % MICRO_BATCH:
            raise OptionError(
                f"max_batch is {self.max_batch}; use a multiple of {MICRO_BATCH} from {least} to {_MOST_BATCH}",
                field="max_batch",
            )
        if self.gpu and self.backend == "openvino":
            raise OptionError("gpu is not for the openvino backend here; use onnxruntime or tensorrt", field="gpu")
        kind = _source(self.backend)
        if kind not in weights.manifest.sha256:
            name = weights.manifest.name
            how = (
                f"build an engine with `maskmend export {name} --format tensorrt` on the GPU and with the TensorRT of the "
                "server, and export those weights"
                if kind == "engine"
                else "export the weights it was made from, or use the tensorrt backend"
            )
            raise OptionError(
                f"backend {self.backend} needs the {kind} file of the weights, and {name} has none; {how}",
                field="backend",
            )


def write_repository(weights: Weights, folder: Path, options: RepositoryOptions) -> Path:
    """Write the model of one set of weights into a repository; others in there stay as they are.

    A model of the same name is exchanged as a whole if it was written by this function. One process at a time may write
    the same model.

    Args:
        weights: checked here against their SHA-256.
        folder: the repository; made where it is missing.
        options: how Triton is to run it.

    Returns:
        The model's folder in it.

    Raises:
        JobError: the folder cannot be written, or holds a model of that name from elsewhere.
        OptionError: see `RepositoryOptions.check`.
        WeightsError: the weights are missing or damaged.
    """
    options.check(weights)
    kind = _source(options.backend)
    weights.verify((kind,))
    name = weights.manifest.name
    final, fresh = folder / name, folder / f".{name}.{secrets.token_hex(4)}"
    old = folder / f"{fresh.name}.old"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if final.exists() and SHA_KEY not in _read(final / "config.pbtxt"):
            raise JobError(
                f"{final} is there already and was not written by maskmend; remove it, or choose another folder",
                field="triton_repository",
            )
        _sweep(folder, name)
        (fresh / "1").mkdir(parents=True)
        shutil.copyfile(weights.file(kind), fresh / "1" / _FILES[options.backend])
        if options.backend == "python":
            shutil.copyfile(Path(__file__).with_name("triton_python_model.py"), fresh / "1" / "model.py")
        (fresh / "config.pbtxt").write_text(config_text(weights, options), encoding="utf-8")
        if final.exists():
            final.rename(old)
        try:
            fresh.rename(final)
        except OSError:
            if old.exists():
                old.rename(final)
            raise
    except OSError as error:
        raise JobError(
            f"the repository {folder} cannot be written: {error.strerror or error}", field="triton_repository"
        ) from error
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
    return final


def _sweep(folder: Path, name: str) -> None:
    """Remove what a writer that was killed left of a model: Triton takes it for a broken one, and does not start."""
    leftover = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}(\.old)?")
    for entry in folder.iterdir():
        if leftover.fullmatch(entry.name):
            shutil.rmtree(entry)


def config_text(weights: Weights, options: RepositoryOptions) -> str:
    """The `config.pbtxt` of a model, in protobuf's text format."""
    manifest = weights.manifest
    size, patch = manifest.input_size, manifest.patch
    parameters = {
        SHA_KEY: graph_sha256(manifest),
        "weights": manifest.name,
        PRECISION_KEY: manifest.precision or "fp32",
        "micro_batch": str(MICRO_BATCH),
    }
    if not options.gpu:
        # One thread for a call, as in process: more instances are the way to use more cores.
        parameters |= {
            "onnxruntime": {"intra_op_thread_count": "1", "inter_op_thread_count": "1"},
            "openvino": {"INFERENCE_NUM_THREADS": "1"},
        }.get(options.backend, {})
    blocks = [
        f'name: "{manifest.name}"',
        f'backend: "{options.backend}"',
        f"max_batch_size: {options.max_batch}",
        f'default_model_filename: "{"model.py" if options.backend == "python" else _FILES[options.backend]}"',
        f'input [\n  {{ name: "{INPUT}" data_type: TYPE_FP32 dims: [ 4, {size}, {size} ] }}\n]',
        f'output [\n  {{ name: "{OUTPUT}" data_type: TYPE_FP32 dims: [ {patch}, {patch} ] }}\n]',
        f"instance_group [\n  {{ kind: {'KIND_GPU' if options.gpu else 'KIND_CPU'} count: {options.instances} }}\n]",
        _batching(options),
        *(_warm_up(count, size) for count in _preferred(options.max_batch)),
        *(f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}' for key, value in parameters.items()),
    ]
    return "\n".join(blocks) + "\n"


def _preferred(max_batch: int) -> list[int]:
    """Sizes that the server may put together: those that requests have, doubled up to the largest."""
    sizes = [2 * MICRO_BATCH]
    while 2 * sizes[-1] <= max_batch:
        sizes.append(2 * sizes[-1])
    return sizes if sizes[-1] == max_batch else [*sizes, max_batch]


def _batching(options: RepositoryOptions) -> str:
    # On a GPU a batch is worth a wait; on a CPU it would only keep the other instances idle.
    delay = 500 if options.gpu else 0
    sizes = ", ".join(map(str, _preferred(options.max_batch)))
    return (
        "dynamic_batching {\n"
        f"  preferred_batch_size: [ {sizes} ]\n"
        f"  max_queue_delay_microseconds: {delay}\n"
        f"  default_queue_policy {{ max_queue_size: {_QUEUE} }}\n"
        "}"
    )


def _warm_up(count: int, size: int) -> str:
    return (
        "model_warmup {\n"
        f'  name: "{count} patches"\n'
        f"  batch_size: {count}\n"
        f'  inputs {{ key: "{INPUT}" value: {{ data_type: TYPE_FP32 dims: [ 4, {size}, {size} ] random_data: true }} }}\n'
        "}"
    )


def _source(backend: str) -> str:
    """Kind of the file of the weights that a backend runs."""
    return "engine" if backend == "tensorrt" else "onnx"


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
