"""Real servers for tests: a process, a port, a log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np

from maskmend.patcher import Rle

STARTING_S = 180


@dataclass
class Running:
    """A server that answers."""

    process: subprocess.Popen[bytes]
    url: str
    port: int
    grpc_port: int | None
    log: Path

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def stop(self, number: int = signal.SIGTERM, wait: float = 60) -> int:
        self.process.send_signal(number)
        return self.process.wait(wait)

    def refine(self, timeout: float = 60, **fields: str) -> httpx.Response:
        """A valid request."""
        image, masks = scene()
        data = {"masks": json.dumps([mask.to_coco() for mask in masks]), **fields}
        return httpx.post(f"{self.url}/v1/refine", files={"image": png(image)}, data=data, timeout=timeout)


@contextmanager
def running(log: Path, *flags: str, grpc: bool = True, env: dict[str, str] | None = None) -> Iterator[Running]:
    """Start `maskmend serve` with free ports and wait until it is ready."""
    command = [sys.executable, "-m", "maskmend.clients.cli", "serve", "--port", "0"]
    command += ["--grpc-port", "0" if grpc else "-1", *flags]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MASKMEND_")} | (env or {})
    with log.open("wb") as out:
        process = subprocess.Popen(command, stderr=out, stdout=out, env=environment)
    try:
        yield _wait(process, log, grpc)
    finally:
        if process.poll() is None:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    # Whoever is killed cannot write down which lines it ran.
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
    process.kill()
    process.wait()


def _wait(process: subprocess.Popen[bytes], log: Path, grpc: bool) -> Running:
    until = time.monotonic() + STARTING_S
    ports: dict[str, int] = {}
    scheme = "http"
    while time.monotonic() < until:
        for line in log.read_text().splitlines():
            found = json.loads(line) if line.startswith("{") else {}
            if "port" in found:
                ports[found["message"]] = int(found["port"])
            if "url" in found:
                scheme = str(found["url"]).split(":")[0]
        if "HTTP listens" in ports and (not grpc or "gRPC listens" in ports):
            url = f"{scheme}://127.0.0.1:{ports['HTTP listens']}"
            try:
                if httpx.get(f"{url}/healthz/ready", timeout=20, verify=False).status_code == 200:
                    return Running(process, url, ports["HTTP listens"], ports.get("gRPC listens"), log)
            except httpx.TransportError:
                pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"the server did not start:\n{log.read_text()[-3000:]}")


def scene(size: tuple[int, int] = (160, 200), count: int = 2) -> tuple[np.ndarray, list[Rle]]:
    """An image uint8 [H, W, 3] RGB of disks over noise, and coarse masks a little beside them."""
    rng = np.random.default_rng(count)
    image = rng.integers(30, 90, (*size, 3), np.uint8)
    rows, columns = np.indices(size)
    masks = []
    for n in range(count):
        y, x = size[0] / 2, size[1] * (n + 0.5) / count
        disk = (rows - y) ** 2 + (columns - x) ** 2 < (min(size[0], size[1] / count) * 0.35) ** 2
        image[disk] = (200, 60 + 40 * n % 150, 50)
        masks.append(Rle.from_dense(np.roll(disk, (3, -3), (0, 1))))
    return image, masks


def png(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)[1])


def jpeg(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", image[..., ::-1])[1])
