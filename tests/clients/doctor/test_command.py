"""`maskmend doctor` through the real command line: well, damaged, with parts missing, with parts that crash."""

from __future__ import annotations

import importlib.util
import json
import shutil
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_job import Run

from maskmend.models.zoo import SHIPPED

NAME = "bpr-small"
IMPORTABLE = {
    name: importlib.util.find_spec(module) is not None
    for name, module in {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}.items()
}
HERE = [name for name, there in IMPORTABLE.items() if there]


def checks(report: dict[str, Any], area: str) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in report["checks"] if check["area"] == area}


def test_a_sound_installation(run: Run) -> None:
    done = run("doctor", "--weights", NAME, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, report["what_to_do"]
    assert report["ok"] is True
    assert checks(report, "geometry")["kernels"]["state"] == "works"
    manifest = json.loads((SHIPPED / f"{NAME}.json").read_text())
    assert checks(report, "weights")[NAME]["facts"]["sha256"] == manifest["sha256"]
    runtimes = checks(report, "runtime")
    wanted = [(name, "fp32") for name in HERE]
    wanted += [("openvino", "bf16"), ("openvino", "int8")] if IMPORTABLE["openvino"] else []
    for runtime, precision in wanted:
        check = runtimes[f"{runtime} {NAME} {precision}"]
        assert check["state"] == "works"
        assert check["facts"]["largest"] <= (1e-4 if precision == "fp32" else 0.3)
        assert check["facts"]["beyond"] <= check["facts"]["most"]
    assert report["machine"]["usable"] >= 1
    base = next(extra for extra in report["extras"] if extra["name"] == "base")
    assert base["state"] == "works"
    assert {"numpy", "numba", "pydantic"} <= {package["name"] for package in base["packages"]}
    assert not {"dev", "docs", "bench"} & {extra["name"] for extra in report["extras"]}


def test_a_broken_weights_file_and_servers_that_are_not_there(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for kind in ("json", "onnx", "safetensors", "md"):
        shutil.copy(SHIPPED / f"{NAME}.{kind}", folder)
    shutil.copytree(SHIPPED / "golden", folder / "golden")
    file = folder / f"{NAME}.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    secret = "a-key-that-nobody-may-see"
    elsewhere = [
        "--server",
        "http://127.0.0.1:9",
        "--triton-url",
        "grpc://127.0.0.1:9?start_s=0.1",
        "--api-key",
        secret,
    ]
    done = run("doctor", "--weights", folder, *elsewhere)
    assert done.returncode == 1
    assert secret not in done.stdout + done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert any(line.startswith(f"broken  {NAME}: {NAME}.onnx does not have the SHA-256") for line in lines)
    for runtime in HERE:
        # PyTorch reads the other file, which is whole.
        state = "works" if runtime == "torch" else "broken"
        assert any(line.startswith(f"{state:8}{runtime} ") for line in lines), runtime
    assert any(line.startswith("broken  http://127.0.0.1:9: ") for line in lines)
    if importlib.util.find_spec("tritonclient"):
        assert any(line.startswith("broken  triton ") for line in lines)
    todo = lines[lines.index("What to do") :]
    assert any("fetch it again" in line for line in todo)
    assert any("maskmend serve" in line for line in todo)
    assert lines[-1] == "Something does not work; see above."


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with all that is installed here but for ONNX Runtime, PyTorch and Ray: their files are not there."""
    if not IMPORTABLE["openvino"]:
        pytest.skip("the openvino runtime is not installed")
    folder = tmp_path_factory.mktemp("sparse") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (target,) = folder.glob("lib/python3*/site-packages")
    left_out = ("onnxruntime", "torch", "ray")
    for source in {*site.getsitepackages()}:
        for entry in Path(source).iterdir():
            name = entry.name.lower()
            if name not in left_out and not name.startswith(tuple(f"{each}-" for each in left_out)):
                link = target / entry.name
                if not link.exists():
                    link.symlink_to(entry)
    return folder / "bin" / "python"


def test_missing_extras_are_no_fault_and_named_with_their_pip_line(sparse: Path, tmp_path: Path) -> None:
    command = [sparse, "-m", "maskmend.clients.cli", "doctor", "--weights", NAME, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    runtimes = checks(report, "runtime")
    assert runtimes[f"openvino {NAME} fp32"]["state"] == "works"
    assert runtimes["onnx"] | {"facts": {}} == {
        "area": "runtime",
        "name": "onnx",
        "state": "missing",
        "said": "not installed",
        "remedy": "pip install 'maskmend[onnx]' (for the onnx runtime)",
        "facts": {},
    }
    assert runtimes["torch"]["state"] == "missing"
    states = {extra["name"]: extra["state"] for extra in report["extras"]}
    assert states["base"] == states["cpu"] == "works"
    assert states["onnx"] == states["ray"] == states["train"] == "missing"
    assert "pip install 'maskmend[ray]' (brings ray)" in report["could_have"]


@pytest.mark.parametrize(
    ("options", "word"),
    [(["--timeout", "0"], "timeout"), (["--timeout", "nan"], "timeout"), (["--ca-file", "none.pem"], "ca-file")],
)
def test_unusable_options_are_named(run: Run, options: list[str], word: str) -> None:
    done = run("doctor", *options)
    assert done.returncode == 2
    assert word in done.stderr


def test_help_has_an_example(run: Run) -> None:
    assert "maskmend doctor --server" in run("doctor", "--help").stdout
