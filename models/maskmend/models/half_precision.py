"""ONNX files in half precision, for exports and for engines that are built on first use.

Apart from `casts`, which cannot be imported without onnx: whoever asks for a file hears what to install.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from maskmend.patcher.errors import RuntimeUnavailableError


def cast_file(source: Path, target: Path, precision: str) -> None:
    """Write the form of an ONNX file that computes in fp16 or bf16; see `casts.cast_graph`.

    Args:
        source: ONNX file, float32.
        target: ONNX file to write.
        precision: fp16 or bf16.

    Raises:
        RuntimeUnavailableError: onnx is missing.
        WeightsError: as `cast_graph`.
    """
    try:
        import onnx

        from maskmend.models.casts import cast_graph
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"precision {precision} needs {error.name}; pip install 'maskmend[export]'", field="precision"
        ) from error
    half: Literal["fp16", "bf16"] = "fp16" if precision == "fp16" else "bf16"
    onnx.save(cast_graph(onnx.load(str(source)), half), str(target))
