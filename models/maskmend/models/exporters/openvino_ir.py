"""OpenVINO's own files: `NAME.xml` and `NAME.bin`."""

from __future__ import annotations

import sys
from pathlib import Path

from maskmend.patcher.errors import RuntimeUnavailableError


def write_ir(source: Path, target: Path, *, halved: bool) -> None:
    """Convert an ONNX graph; its batch stays open.

    Args:
        source: ONNX file, float32 or with int8 QDQ nodes, which become int8 kernels.
        target: `.xml` file to write; `.bin` is written beside it.
        halved: keep weights as float16; a CPU still computes in float32, from rounded weights.

    Raises:
        RuntimeUnavailableError: OpenVINO is missing.
    """
    try:
        # See `runtimes.create_runtime`: its import reports over the network otherwise.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino
        from openvino.frontend import FrontEndManager
    except ImportError as error:
        raise RuntimeUnavailableError(
            "format openvino needs OpenVINO; pip install 'maskmend[cpu]'", field="format"
        ) from error
    reader = FrontEndManager().load_by_framework("onnx")
    graph = reader.convert(reader.load(str(source)))
    openvino.save_model(graph, str(target), compress_to_fp16=halved)
