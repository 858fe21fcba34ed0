"""Load on a real server: closed loop, open loop at twice its capacity, soak, and throughput beside `maskmend refine`.

    python benchmarks/service/load.py throughput --data DATA
    python benchmarks/service/load.py closed --data DATA --seconds 60
    python benchmarks/service/load.py open --data DATA --seconds 60
    python benchmarks/service/load.py soak --data DATA --seconds 600

DATA/coco-cc holds `images/` and `instances.json`. A server is started for each run, with `--flags` if given. Each request
is one photograph with all its masks (kind polygon). Prints Markdown rows; ends with 1 where something came back that must
not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

CONCURRENCIES = (1, 4, 16, 64)
DEADLINE_S = 20.0


@dataclass
class Request:
    """One photograph and its masks, as form fields."""

    image: bytes
    masks: str
    instances: int


@dataclass
class Outcome:
    """What came back."""

    codes: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    instances: int = 0
    without_retry_after: int = 0

    def row(self, name: str, wall: float) -> str:
        """A Markdown row."""
        p50, p99 = np.percentile(self.seconds, [50, 99]) if self.seconds else (0, 0)
        others = {code: n for code, n in self.codes.items() if code not in (200, 429)}
        cells = (
            self.codes[200],
            self.codes[429],
            others or 0,
            f"{self.instances / wall:.1f}",
            f"{p50:.2f}",
            f"{p99:.2f}",
        )
        return f"| {name} | " + " | ".join(map(str, cells)) + " |"

    @property
    def bad(self) -> bool:
        """Whether anything came back that is neither an answer nor a refusal that says when to come again."""
        return bool(set(self.codes) - {200, 429}) or self.without_retry_after > 0


HEAD = "| run | answered | refused | other | instances/s | p50 s | p99 s |\n| --- | --- | --- | --- | --- | --- | --- |"


def coarse(data: Path, work: Path, limit: int) -> tuple[Path, Path]:
    """Coarse masks of the first photographs, and the folder of these."""
    coco = json.loads((data / "coco-cc" / "instances.json").read_text())
    coco["images"] = coco["images"][:limit]
    wanted = {image["id"] for image in coco["images"]}
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in wanted and not a["iscrowd"]]
    truth, out, images = work / "truth.json", work / "coarse.json", data / "coco-cc" / "images"
    truth.write_text(json.dumps(coco))
    command = ["degrade", truth, "--images", images, "--output", out, "--kind", "polygon", "--seed", "3"]
    subprocess.run([sys.executable, "-m", "maskmend.clients.cli", *map(str, command)], check=True, capture_output=True)
    return out, images


def requests_of(results: Path, images: Path) -> list[Request]:
    """One request for each photograph."""
    by_file: dict[str, list[Any]] = {}
    for record in json.loads(results.read_text()):
        by_file.setdefault(record["file_name"], []).append(record["segmentation"])
    return [Request((images / name).read_bytes(), json.dumps(masks), len(masks)) for name, masks in by_file.items()]


@contextlib.contextmanager
def server(flags: list[str], work: Path) -> Iterator[tuple[str, int]]:
    """A server on a port of its own: its URL and process id."""
    log = work / "server.log"
    command = [sys.executable, "-m", "maskmend.clients.cli", "serve", "--port", "0", "--grpc-port", "-1", *flags]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stderr=out, stdout=out)
    try:
        url = ""
        while not url:
            time.sleep(0.2)
            for line in log.read_text().splitlines():
                url = url or json.loads(line).get("url", "") if line.startswith("{") else url
            if process.poll() is not None:
                raise SystemExit(log.read_text())
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/healthz/ready", timeout=60).status_code == 200:
                    break
            time.sleep(0.2)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(60)


async def ask(client: httpx.AsyncClient, url: str, request: Request, outcome: Outcome) -> None:
    """Send one request and note what comes back."""
    began = time.monotonic()
    try:
        answer = await client.post(
            f"{url}/v1/refine",
            files={"image": request.image},
            data={"masks": request.masks, "timeout_s": str(DEADLINE_S)},
        )
    except httpx.HTTPError as error:
        print(type(error).__name__, file=sys.stderr)
        outcome.codes[0] += 1
        return
    outcome.codes[answer.status_code] += 1
    if answer.status_code == 200:
        outcome.seconds.append(time.monotonic() - began)
        outcome.instances += request.instances
    elif "retry-after" not in answer.headers:
        outcome.without_retry_after += 1


def new_client() -> httpx.AsyncClient:
    """A client that never waits for a connection of its own."""
    return httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None))


async def closed(
    url: str, requests: list[Request], concurrency: int, seconds: float, count: int = 0
) -> tuple[Outcome, float]:
    """Each of several clients sends its next request when the last is answered; for so long, or so many in all."""
    outcome, began, sent = Outcome(), time.monotonic(), 0

    async def one() -> None:
        nonlocal sent
        while (sent < count) if count else (time.monotonic() - began < seconds):
            request = requests[sent % len(requests)]
            sent += 1
            await ask(client, url, request, outcome)

    async with new_client() as client:
        await asyncio.gather(*(one() for _ in range(concurrency)))
    return outcome, time.monotonic() - began


async def open_loop(url: str, requests: list[Request], rate: float, seconds: float) -> tuple[Outcome, float]:
    """Requests at a steady rate, whatever becomes of the earlier ones."""
    outcome, began, tasks = Outcome(), time.monotonic(), []
    async with new_client() as client:
        for n in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + n / rate - time.monotonic()))
            tasks.append(asyncio.create_task(ask(client, url, requests[n % len(requests)], outcome)))
        await asyncio.gather(*tasks)
    return outcome, time.monotonic() - began


def resident_mb(pid: int) -> float:
    """Memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def run_throughput(requests: list[Request], results: Path, images: Path, flags: list[str], work: Path) -> bool:
    """The same photographs through `refine` and through the server at concurrency 16, by turns."""
    total = sum(request.instances for request in requests)
    command = [sys.executable, "-m", "maskmend.clients.cli", "refine", str(results), "--images", str(images)]
    ratios, bad = [], False
    with server(flags, work) as (url, _):
        asyncio.run(closed(url, requests, 16, 0, len(requests)))
        for turn in range(3):
            (work / "out.json").unlink(missing_ok=True)
            done = subprocess.run(
                [*command, "--output", str(work / "out.json")], capture_output=True, text=True, check=True
            )
            batch = float(done.stderr.rsplit(" in ", 1)[1].split()[0])
            outcome, wall = asyncio.run(closed(url, requests, 16, 0, len(requests)))
            bad |= outcome.bad
            ratios.append(batch / wall)
            print(
                f"turn {turn}: refine {total / batch:.1f} instances/s, server {total / wall:.1f}, ratio {batch / wall:.2f}"
            )
    print(f"median ratio {np.median(ratios):.2f}")
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", choices=("throughput", "closed", "open", "soak"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--limit", type=int, default=40, help="photographs")
    parser.add_argument("--flags", nargs="*", default=[], help="of maskmend serve")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        results, images = coarse(arguments.data, work, arguments.limit)
        requests = requests_of(results, images)
        bad = False
        if arguments.run == "throughput":
            bad = run_throughput(requests, results, images, arguments.flags, work)
            raise SystemExit(int(bad))
        with server(arguments.flags, work) as (url, pid):
            # As many at a time as in the run: each thread of the server keeps memory of its own.
            asyncio.run(closed(url, requests, 8, 0, 3 * len(requests)))
            print(HEAD)
            if arguments.run == "closed":
                for concurrency in CONCURRENCIES:
                    outcome, wall = asyncio.run(closed(url, requests, concurrency, arguments.seconds))
                    print(outcome.row(f"closed, {concurrency}", wall), flush=True)
                    bad |= outcome.bad
            elif arguments.run == "open":
                outcome, wall = asyncio.run(closed(url, requests, 8, 20))
                rate = outcome.codes[200] / wall
                print(outcome.row("capacity, closed, 8", wall), flush=True)
                outcome, wall = asyncio.run(open_loop(url, requests, 2 * rate, arguments.seconds))
                print(outcome.row(f"open, {2 * rate:.1f} requests/s", wall))
                bad = outcome.bad or max(outcome.seconds) > DEADLINE_S
            else:
                started = resident_mb(pid)
                step = arguments.seconds / 10
                for part in range(10):
                    outcome, wall = asyncio.run(closed(url, requests, 8, step))
                    bad |= outcome.bad
                    print(outcome.row(f"soak {part + 1}/10, {resident_mb(pid):.0f} MB", wall), flush=True)
                grown = resident_mb(pid) - started
                print(f"memory after warm-up {started:.0f} MB, growth {grown:.0f} MB")
        raise SystemExit(int(bad))


if __name__ == "__main__":
    main()
