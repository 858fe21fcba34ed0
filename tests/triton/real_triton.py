"""A real NVIDIA Triton on the CPU: its own virtual environment, made once and kept, and a process that can be killed.

The wheel `nvidia-pytriton` brings the server and its python backend. Its Python must have numpy below 2, and the ONNX
Runtime of the tests' own Python, as results are compared bit by bit. The environment lies in `~/.cache/maskmend`, or where
MASKMEND_TRITON_VENV says.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

PYTRITON = "0.7.0"
INSTALL_S, START_S = 900, 180


def environment() -> Path:
    """The virtual environment, made if it is not there yet. Skips the test, with the reason, where that cannot be done."""
    onnxruntime = version("onnxruntime")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    default = cache / "maskmend" / f"triton-{PYTRITON}-onnxruntime-{onnxruntime}"
    venv = Path(os.environ.get("MASKMEND_TRITON_VENV") or default)
    done = venv / "installed"
    with suppress(OSError):
        if done.read_text() == onnxruntime:
            _check_stub(venv)
            return venv
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("the wheel of Triton is for Linux on x86-64")
    venv.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{venv}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done.exists() and done.read_text() == onnxruntime):
            shutil.rmtree(venv, ignore_errors=True)
            _call(sys.executable, "-m", "venv", str(venv))
            pip = (str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            # Of the wheel only the server is used, not the library that wants a dozen packages.
            _call(*pip, "--no-deps", f"nvidia-pytriton=={PYTRITON}")
            _call(*pip, "numpy<2", f"onnxruntime=={onnxruntime}")
            _lay_out_backend(venv)
            done.write_text(onnxruntime)
    _check_stub(venv)
    return venv


def packages(venv: Path) -> Path:
    return next((venv / "lib").glob("python3*")) / "site-packages"


def _lay_out_backend(venv: Path) -> None:
    """The backend directory that the server wants: the wheel keeps the stub of each version of Python elsewhere."""
    server = packages(venv) / "pytriton" / "tritonserver"
    folder = venv / "backends" / "python"
    shutil.copytree(server / "backends" / "python", folder)
    stub = f"{sys.version_info.major}.{sys.version_info.minor}/triton_python_backend_stub"
    shutil.copy(server / "python_backend_stubs" / stub, folder)


def _libraries(venv: Path) -> str:
    """Where the stub, that is no longer in the wheel's own folders, finds its libraries, that of Python among them."""
    found = (
        packages(venv) / "nvidia_pytriton.libs",
        sysconfig.get_config_var("LIBDIR"),
        os.environ.get("LD_LIBRARY_PATH"),
    )
    return ":".join(str(folder) for folder in found if folder)


def _check_stub(venv: Path) -> None:
    stub = venv / "backends" / "python" / "triton_python_backend_stub"
    environ = {**os.environ, "LD_LIBRARY_PATH": _libraries(venv)}
    done = subprocess.run(["ldd", str(stub)], capture_output=True, text=True, env=environ, check=False)
    missing = [line.split()[0] for line in done.stdout.splitlines() if "not found" in line]
    if missing:
        pytest.skip(f"Triton's python backend needs {', '.join(missing)}, which this machine does not have")


def _call(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"a Triton of our own could not be installed in {INSTALL_S} s")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"a Triton of our own could not be installed: {last[:200]}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Triton:
    """A server over one repository, always on the same ports."""

    venv: Path
    repository: Path
    log: Path
    http_port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def grpc(self) -> str:
        return f"grpc://127.0.0.1:{self.grpc_port}"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def start(self, *, wait: bool = True) -> None:
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MASKMEND_"))}
        environ |= {
            "PYTHONPATH": str(packages(self.venv)),
            "VIRTUAL_ENV": str(self.venv),
            "LD_LIBRARY_PATH": _libraries(self.venv),
            "PATH": f"{self.venv / 'bin'}:{environ.get('PATH', '')}",
        }
        command = [
            str(packages(self.venv) / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
            *("--model-repository", str(self.repository)),
            *("--backend-directory", str(self.venv / "backends")),
            *("--http-address", "127.0.0.1", "--http-port", str(self.http_port)),
            *("--grpc-address", "127.0.0.1", "--grpc-port", str(self.grpc_port)),
            *("--metrics-address", "127.0.0.1", "--metrics-port", str(self.metrics_port)),
            *("--backend-config", f"python,shm-region-prefix-name={self._prefix}"),
        ]
        for attempt in range(3):
            with self.log.open("ab") as out:
                self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environ, start_new_session=True)
            if not wait:
                return
            try:
                return self.wait()
            except AssertionError:
                # Starved of processor time, Triton 2.51 was seen to die of a lock of its own while it loads a model.
                if attempt == 2 or self.process.poll() is None:
                    raise

    def wait(self) -> None:
        assert self.process is not None
        until = time.monotonic() + START_S
        with httpx.Client(timeout=5) as client:
            while time.monotonic() < until and self.process.poll() is None:
                with suppress(httpx.TransportError):
                    if client.get(f"{self.http}/v2/health/ready").status_code == 200:
                        return
                time.sleep(0.1)
        raise AssertionError(f"Triton did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def kill(self) -> None:
        """kill -9 of the server, and of the processes that hold its models."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
        for left in Path("/dev/shm").glob(f"{self._prefix}*"):
            left.unlink(missing_ok=True)

    @property
    def _prefix(self) -> str:
        return f"maskmend-test-{self.grpc_port}-"


@contextmanager
def running(repository: Path, folder: Path) -> Iterator[Triton]:
    """A Triton that is killed at the end."""
    triton = Triton(environment(), repository, folder / "triton.log")
    try:
        triton.start()
        yield triton
    finally:
        triton.kill()
