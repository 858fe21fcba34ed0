"""An hour of everything at once on a real server: photographs of 0.3 to 50 megapixels, damaged ones, clients that hang up.

    python benchmarks/service/soak.py run --data DATA --seconds 3600 --out build/soak
    python benchmarks/service/soak.py plot --out build/soak --png docs/images/soak.png

DATA/coco-cc holds `images/` and `instances.json`: its photographs are the requests of 0.3 MP, larger ones are painted
(benchmarks/performance/scenes.py). A few clients send one request after another, each followed by a pause; which ones is
drawn by seed. Every answer must be what the same request got the first time, to the byte; every damaged photograph must be
refused with 422; a client that hangs up must leave nothing behind.

`out/memory.csv`: every few seconds, resident memory of the server and its children, threads, open files, requests at work.
`out/requests.csv`: each request, its kind, seconds, status. Both are written as it goes, so `plot` can look at a run under
way. Ends with 1 where something came back that must not.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from load import Request, coarse, new_client, requests_of, server

sys.path.insert(0, str(Path(__file__).parents[1] / "performance"))
from scenes import synthetic

KINDS = {"0.3": 0.55, "1": 0.14, "3": 0.1, "12": 0.06, "24": 0.03, "50": 0.02, "damaged": 0.06, "hangs up": 0.04}
"""Megapixels, or what is wrong, and how often it is drawn."""
MEMORY = ("seconds", "rss_mb", "threads", "open_files", "busy", "load_average")
REQUESTS = ("seconds", "kind", "latency_s", "status")
DEADLINE_S = 60.0


@dataclass
class Soak:
    """What was seen so far."""

    folder: Path
    began: float = field(default_factory=time.monotonic)
    digests: dict[tuple[str, int], str] = field(default_factory=dict)
    codes: dict[str, Counter[int]] = field(default_factory=dict)
    differing: int = 0

    def write(self, name: str, row: tuple[Any, ...]) -> None:
        """Append a row, its first cell the seconds since the start."""
        with (self.folder / name).open("a", newline="") as out:
            csv.writer(out).writerow([f"{time.monotonic() - self.began:.1f}", *row])

    def note(self, kind: str, which: int, seconds: float, status: int, body: bytes) -> None:
        """Take down one request; whether the answer is that of last time."""
        self.codes.setdefault(kind, Counter())[status] += 1
        self.write("requests.csv", (kind, f"{seconds:.3f}", status))
        if status == 200:
            digest = hashlib.sha256(json.dumps(json.loads(body)["instances"]).encode()).hexdigest()
            self.differing += self.digests.setdefault((kind, which), digest) != digest


def all_requests(data: Path, work: Path) -> dict[str, list[Request]]:
    """Requests of every kind; a few photographs of each size."""
    found = {"0.3": requests_of(*coarse(data, work, 20))}
    for name, objects, size in (
        ("1", 8, 110.0),
        ("3", 10, 150.0),
        ("12", 12, 200.0),
        ("24", 12, 250.0),
        ("50", 12, 300.0),
    ):
        height = round((float(name) * 1e6 * 3 / 4) ** 0.5)
        width = round(float(name) * 1e6 / height)
        found[name] = []
        for seed in range(2):
            scene = synthetic(work, height, width, [size] * objects, seed, f"{name}-{seed}.jpg")
            masks = json.dumps([mask.to_coco() for mask in scene.masks])
            found[name].append(Request(scene.photograph.read_bytes(), masks, objects))
    found["damaged"] = [Request(one.image[: len(one.image) // 2], one.masks, 0) for one in (*found["0.3"], *found["3"])]
    found["hangs up"] = found["3"] + found["12"]
    return found


async def client(
    url: str, requests: dict[str, list[Request]], soak: Soak, until: float, pause: float, seed: int
) -> None:
    """Send requests drawn by seed, one after another."""
    rng = np.random.default_rng(seed)
    async with new_client() as http:
        while time.monotonic() < until:
            kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
            which = int(rng.integers(len(requests[kind])))
            request = requests[kind][which]
            patience = (
                httpx.Timeout(120, read=float(rng.uniform(0.05, 0.5))) if kind == "hangs up" else httpx.Timeout(120)
            )
            fields = {"masks": request.masks, "timeout_s": str(DEADLINE_S)}
            began = time.monotonic()
            try:
                answer = await http.post(
                    f"{url}/v1/refine", files={"image": request.image}, data=fields, timeout=patience
                )
                soak.note(kind, which, time.monotonic() - began, answer.status_code, answer.content)
            except httpx.HTTPError as error:
                if kind != "hangs up":
                    print(f"{kind}: {type(error).__name__}", file=sys.stderr, flush=True)
                soak.note(kind, which, time.monotonic() - began, 0, b"")
            await asyncio.sleep(pause * float(rng.uniform(0.5, 1.5)))


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return [pid]
    return [pid, *(one for names in children for name in names for one in tree(int(name)))]


def usage(pid: int) -> tuple[str, int, int]:
    """Resident MB, threads and open files of a server with its children."""
    resident = threads = files = 0
    for one in tree(pid):
        try:
            text = Path(f"/proc/{one}/status").read_text()
            files += sum(1 for _ in Path(f"/proc/{one}/fd").iterdir())
        except OSError:
            continue  # it has just ended
        resident += int(text.split("VmRSS:")[1].split()[0])
        threads += int(text.split("Threads:")[1].split()[0])
    return f"{resident / 1024:.1f}", threads, files


async def watch(url: str, pid: int, soak: Soak, until: float, every: float) -> None:
    """Write down what the server takes, every few seconds."""
    async with new_client() as http:
        while time.monotonic() < until:
            text = (await http.get(f"{url}/metrics")).text
            busy = next(
                line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith("maskmend_busy_requests")
            )
            soak.write("memory.csv", (*usage(pid), busy, Path("/proc/loadavg").read_text().split()[0]))
            await asyncio.sleep(every)


async def soaked(url: str, pid: int, requests: dict[str, list[Request]], soak: Soak, given: argparse.Namespace) -> None:
    """All clients and the watch, until the time is over."""
    until = time.monotonic() + given.seconds
    clients = [client(url, requests, soak, until, given.pause, seed) for seed in range(given.concurrency)]
    await asyncio.gather(watch(url, pid, soak, until, given.every), *clients)


def run(given: argparse.Namespace) -> bool:
    """The soak; whether anything came back that must not."""
    given.out.mkdir(parents=True, exist_ok=True)
    for name, head in (("memory.csv", MEMORY), ("requests.csv", REQUESTS)):
        (given.out / name).write_text(",".join(head) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        requests = all_requests(given.data, work)
        with server(given.flags, work) as (url, pid):
            soak = Soak(given.out)
            asyncio.run(soaked(url, pid, requests, soak, given))
            time.sleep(2)
            left = httpx.get(f"{url}/metrics", timeout=60).text
        tail = (work / "server.log").read_text()[-2000:]
    bad = soak.differing > 0 or "maskmend_busy_requests 0.0" not in left
    for kind, codes in soak.codes.items():
        wanted = {"damaged": {422, 429}, "hangs up": {0, 200, 429}}.get(kind, {200, 429})
        bad |= bool(set(codes) - wanted)
        print(f"{kind}: {dict(codes)}")
    print(f"answers that differ from the first: {soak.differing}")
    print(figures(given.out))
    if bad:
        print(tail, file=sys.stderr)
    return bad


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file by their heads."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def figures(folder: Path) -> str:
    """Markdown rows of latency by kind, and how memory grew: a line through all that came after the first tenth."""
    rows, memory = read(folder / "requests.csv"), read(folder / "memory.csv")
    lines = ["| megapixels | answered | p50 s | p95 s | longest s |", "| --- | --- | --- | --- | --- |"]
    for kind in KINDS:
        seconds = [float(row["latency_s"]) for row in rows if row["kind"] == kind and row["status"] == "200"]
        if seconds and kind != "hangs up":
            p50, p95 = np.percentile(seconds, [50, 95])
            lines.append(f"| {kind} | {len(seconds)} | {p50:.2f} | {p95:.2f} | {max(seconds):.2f} |")
    time_s = np.array([float(row["seconds"]) for row in memory])
    resident = np.array([float(row["rss_mb"]) for row in memory])
    settled = time_s > time_s[-1] / 10
    slope = np.polyfit(time_s[settled] / 3600, resident[settled], 1)[0] if settled.sum() > 2 else float("nan")
    quarters = [float(np.median(part)) for part in np.array_split(resident, 4)]
    lines.append(f"\n{len(rows)} requests in {time_s[-1] / 60:.0f} minutes")
    lines.append(
        f"resident MB: median by quarters {', '.join(f'{q:.0f}' for q in quarters)}; most {resident.max():.0f}"
    )
    lines.append(f"line through all after the first tenth: {slope:+.1f} MB an hour")
    return "\n".join(lines)


def plot(folder: Path, png: Path) -> None:
    """Memory and latency over time, one above the other."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows, memory = read(folder / "requests.csv"), read(folder / "memory.csv")
    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 6.5), sharex=True, layout="constrained")
    minutes = [float(row["seconds"]) / 60 for row in memory]
    above.plot(minutes, [float(row["rss_mb"]) for row in memory], lw=1, color="tab:blue")
    above.set(ylabel="resident memory, MB", ylim=(0, None), title="Soak: one server, photographs of 0.3 to 50 MP")
    load = above.twinx()
    load.plot(minutes, [float(row["load_average"]) for row in memory], lw=0.8, color="tab:gray", alpha=0.6)
    load.set(ylabel="load average of the machine", ylim=(0, None))
    sizes = [kind for kind in KINDS if kind not in ("damaged", "hangs up")]
    for n, kind in enumerate(sizes):
        found = [row for row in rows if row["kind"] == kind and row["status"] == "200"]
        at = [float(row["seconds"]) / 60 for row in found]
        colour = plt.get_cmap("viridis")(n / len(sizes))
        below.scatter(at, [float(row["latency_s"]) for row in found], s=7, color=colour, label=f"{kind} MP")
    below.set(xlabel="minutes", ylabel="latency, s", yscale="log")
    below.legend(ncols=6, loc="upper center", fontsize="small", markerscale=2)
    low, high = below.get_ylim()
    below.set_ylim(low, high * 3)
    png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(png, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "plot"))
    parser.add_argument("--data", type=Path, help="for run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the CSV files")
    parser.add_argument("--png", type=Path, help="for plot")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--every", type=float, default=5, help="seconds between looks at the memory")
    parser.add_argument("--concurrency", type=int, default=3, help="clients")
    parser.add_argument("--pause", type=float, default=0, help="mean pause of a client after each request, seconds")
    parser.add_argument("--flags", nargs="*", default=[], help="of maskmend serve")
    given = parser.parse_args()
    if given.what == "run":
        if given.data is None:
            parser.error("run needs --data")
        raise SystemExit(int(run(given)))
    if given.png is None:
        parser.error("plot needs --png")
    print(figures(given.out))
    plot(given.out, given.png)


if __name__ == "__main__":
    main()
