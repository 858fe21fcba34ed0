"""Mutation tests of the patcher: how many small faults, put into the code one at a time, do its tests notice?

A place is where one of Cosmic Ray's operators can change a module: an operator, a comparison, a number, a condition, a
loop, a decorator. Of each module so many places are drawn as told, and of each place one of its faults, by a seeded
generator. Left out are places that are never executed (annotations) and `@compiled`, which changes how fast a kernel is and
not what it does. Each fault gets the tests of its module (`TESTS`), which stop at the first failure, in a process of its
own; so a fault that crashes or never ends harms nobody. One that takes four times the processor time of the sound module
and five seconds more is said to have run out of time, and counts as noticed.

Modules with kernels run as plain Python (`NUMBA_DISABLE_JIT=1`): no fault hides behind machine code that was compiled
before, and writing beside an array is an error and not left to chance. The other modules run with compiled kernels. Tests
that take long without saying more are left out (`TOO_LONG` of tests/patcher/uncompiled.py); so a fault may go unnoticed here
that the whole suite notices.

Needs Cosmic Ray (`pip install cosmic-ray`); `make mutation` makes the environment. Run:
python benchmarks/mutation.py [MODULE ...] [--sample 30] [--seed 1] [--jobs 1] [--out FILE] [--again FILE]
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "patcher" / "maskmend" / "patcher"
NEEDED = "numpy", "cv2", "numba", "pytest", "hypothesis.extra.numpy", "scipy.ndimage", "PIL.Image", "pycocotools.mask"

CODECS = ("test_codec_kernels", "test_rle")
GUARD = ("test_guard_numbers", "test_changes", "test_evidence", "test_topology", "test_guard", "test_guard_parity")
TESTS: dict[str, tuple[str, ...]] = {
    "_bits": CODECS,
    "_blend": ("test_blend_tiles", "test_field", "test_reassemble"),
    "_codec": CODECS,
    "_crop": ("test_crop_kernels",),
    "_headers": ("test_headers", "test_images"),
    "_jit": ("test_jit",),
    "_near": GUARD,
    "_pieces": ("test_guard_numbers", "test_topology", "test_guard_parity"),
    "_polygon": ("test_polygons",),
    "_score": ("test_boundary", "test_select_kernels"),
    "_select": ("test_select_kernels", "test_boxes"),
    "arbitrate": ("test_arbitrate",),
    "boundary": ("test_boundary",),
    "boxes": ("test_select_kernels", "test_boxes"),
    "changes": GUARD,
    "crops": ("test_crop_kernels", "test_crops", "test_reassemble"),
    "displacement": ("test_displacement",),
    "errors": ("test_errors",),
    "evidence": GUARD,
    "field": ("test_field", *GUARD),
    "guard": GUARD,
    "image_size": ("test_image_size",),
    "images": ("test_images", "test_image_size", "test_headers"),
    "incoherence": ("test_incoherence",),
    "instance_boxes": ("test_instance_boxes",),
    "mask_images": ("test_mask_images",),
    "metrics": ("test_metrics",),
    "outlines": ("test_outlines",),
    "polygons": ("test_polygons",),
    "quadtree": ("test_quadtree",),
    "reassembly": ("test_blend_tiles", "test_reassemble"),
    "rle": ("test_rle", "test_codec_kernels", "test_guard"),
    "simplify": ("test_simplify",),
    "topology": GUARD,
}
"""The test modules of each module, those that are likely to notice a fault first."""
EXAMPLES = 20
"""Most examples of a property where kernels run as plain Python."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="of the patcher, without .py; all by default")
    parser.add_argument("--sample", type=int, default=30, help="places per module")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/mutation/results.jsonl"))
    parser.add_argument("--again", type=Path, help="an earlier --out: only the faults that went unnoticed there")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(Path(options.worker))
        return
    modules = options.modules or sorted(TESTS)
    faults = again(options.again, modules) if options.again else drawn(modules, options.sample, options.seed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    found = run(faults, options.jobs, options.out)
    print(table(found))


# What to change.


def places(module: str) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """Faults (operator, number of its occurrence) of a module by the line and column where they begin."""
    from cosmic_ray.ast import get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    source = (PACKAGE / f"{module}.py").read_text()
    skipped = never_run(source)
    tree = list(nodes(get_ast(source)))
    found: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for name in sorted(operator_names()):
        if get_operator(name).arguments():
            continue
        operator = get_operator(name)()
        occurrence = 0
        for node in tree:
            for begin, _ in operator.mutation_positions(node):
                if not any(first <= tuple(begin) < end for first, end in skipped):
                    found.setdefault(tuple(begin), []).append((name, occurrence))
                occurrence += 1
    return found


def nodes(node: Any) -> Any:
    """A parso tree in the order in which Cosmic Ray counts occurrences."""
    yield node
    for child in getattr(node, "children", ()):
        yield from nodes(child)


def never_run(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations and the decorator `@compiled` stand."""
    parts: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.arg, ast.AnnAssign)):
            parts.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            parts.append(node.returns)
            parts.extend(part for part in node.decorator_list if ast.unparse(part) == "compiled")
    return [
        # Cosmic Ray's decorators begin at the @.
        ((part.lineno, max(part.col_offset - 1, 0)), (part.end_lineno or 0, part.end_col_offset or 0))
        for part in parts
        if part is not None
    ]


def drawn(modules: list[str], sample: int, seed: int) -> list[dict[str, Any]]:
    faults = []
    for module in modules:
        rng = random.Random(f"{seed} {module}")
        found = places(module)
        chosen = rng.sample(sorted(found), min(sample, len(found)))
        for line, column in sorted(chosen):
            operator, occurrence = rng.choice(found[line, column])
            faults.append(
                {
                    "module": module, "places": len(found), "seed": seed, "line": line, "column": column,
                    "operator": operator.removeprefix("core/"), "occurrence": occurrence,
                }
            )  # fmt: skip
    return faults


def again(earlier: Path, modules: list[str]) -> list[dict[str, Any]]:
    faults = [json.loads(line) for line in earlier.read_text().splitlines()]
    return [fault for fault in faults if fault["outcome"] == "unnoticed" and fault["module"] in modules]


def changed(fault: dict[str, Any]) -> str:
    """The source of a module with a fault in it."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (PACKAGE / f"{fault['module']}.py").read_text()
    operator = get_operator("core/" + fault["operator"])()
    mutated = mutate_code(source, operator, fault["occurrence"])
    if mutated is None or mutated == source:
        raise RuntimeError(f"{fault}: nothing to change; was the module edited since?")
    fault["source"] = hashlib.sha256(source.encode()).hexdigest()[:12]
    old, new = source.splitlines(), mutated.splitlines()
    at = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)) - 1)
    fault["was"], fault["became"] = old[at].strip(), new[at].strip()
    return str(mutated)


# Trying it.


def has_kernels(module: str) -> bool:
    """Whether a module must run as plain Python; `_jit` itself makes sense with a compiler only."""
    return module != "_jit" and "import compiled" in (PACKAGE / f"{module}.py").read_text()


def run(faults: list[dict[str, Any]], jobs: int, out: Path) -> list[dict[str, Any]]:
    """Try all faults; results come in their order, and are written to `out` at once."""
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder, out.open("w") as file:
        for plain in (True, False):
            chosen = [fault for fault in faults if has_kernels(fault["module"]) is plain]
            if chosen:
                for result in tried_by_crew(chosen, [Worker(Path(folder) / f"{plain}{n}", plain) for n in range(jobs)]):
                    found.append(result)
                    file.write(json.dumps(result) + "\n")
                    file.flush()
                    if result["outcome"] == "unnoticed":
                        print(
                            f"{result['module']}:{result['line']} {result['was']}  ->  {result['became']}", flush=True
                        )
    return found


def tried_by_crew(faults: list[dict[str, Any]], crew: list[Worker]) -> Iterator[dict[str, Any]]:
    free: Queue[Worker] = Queue()
    for worker in crew:
        free.put(worker)
    limits: dict[str, float] = {}

    def one(fault: dict[str, Any]) -> dict[str, Any]:
        mutated = changed(fault)
        worker = free.get()
        try:
            return {**fault, **worker.ask(fault["module"], mutated, limits[fault["module"]])}
        finally:
            free.put(worker)

    with ThreadPoolExecutor(len(crew)) as pool:
        for module in dict.fromkeys(fault["module"] for fault in faults):
            limits[module] = crew[0].sound(module)
            yield from pool.map(one, [fault for fault in faults if fault["module"] == module])
    for worker in crew:
        worker.close()


class Worker:
    """A process that has the libraries loaded, and a copy of the package to put faults in."""

    def __init__(self, folder: Path, plain: bool) -> None:
        shutil.copytree(PACKAGE, folder / "maskmend" / "patcher", ignore=shutil.ignore_patterns("__pycache__"))
        environment = {
            **os.environ, "NUMBA_DISABLE_JIT": str(int(plain)), "NUMBA_CACHE_DIR": str(folder / "cache"),
            "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore",
            # Their import would take longer than many a test.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }  # fmt: skip
        command = [sys.executable, __file__, "--worker", str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )

    def sound(self, module: str) -> float:
        """Processor seconds that the tests of the unchanged module may take, with room."""
        source = (PACKAGE / f"{module}.py").read_text()
        for _ in range(1 if has_kernels(module) else 2):
            # In the first run kernels may have to be compiled, which must not count.
            found = self.ask(module, source, 900.0)
            if found["outcome"] != "unnoticed":
                raise RuntimeError(f"the tests of {module} fail without any fault:\n{found['tail']}")
        print(f"{module}: {found['seconds']:.1f} s without a fault", flush=True)
        return float(4 * found["seconds"] + 5)

    def ask(self, module: str, source: str, limit: float) -> dict[str, Any]:
        """What became of the tests of a module with this source."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"module": module, "source": source, "limit": limit}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


def work(folder: Path) -> None:
    """Reads faults, one a line, and answers what became of each."""
    for name in NEEDED:
        importlib.import_module(name)
    importlib.import_module("cv2").setNumThreads(1)
    package = folder / "maskmend" / "patcher"
    for number, line in enumerate(sys.stdin):
        task = json.loads(line)
        path = package / f"{task['module']}.py"
        sound = path.read_text()
        path.write_text(task["source"])
        # Bytecode is known by the second and the size of its source.
        os.utime(path, (10**9 + number, 10**9 + number))
        if task["module"] == "_jit":
            shutil.rmtree(folder / "cache", ignore_errors=True)
        answer = tried(folder, task["module"], task["limit"])
        path.write_text(sound)
        os.utime(path, (10**9 - 1, 10**9 - 1))
        shutil.rmtree(package / "__pycache__", ignore_errors=True)
        print(json.dumps(answer), flush=True)


def tried(folder: Path, module: str, limit: float) -> dict[str, Any]:
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            os._exit(tests(folder, module, limit))
        deadline = time.monotonic() + 20 * limit
        while True:
            ended, status, used = os.wait4(child, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.02)
        output.seek(0)
        tail = output.read()[-1500:].decode(errors="replace")
    seconds = used.ru_utime + used.ru_stime
    if os.WIFSIGNALED(status):
        late = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
        return {"outcome": "out of time" if late else "noticed", "seconds": seconds, "tail": tail}
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1, 2, 3):
        raise RuntimeError(f"pytest ended with {code}:\n{tail}")
    return {"outcome": "noticed" if code else "unnoticed", "seconds": seconds, "tail": tail}


def tests(folder: Path, module: str, limit: float) -> int:
    """In a process of its own: the tests of a module, on the copy of the package in `folder`."""
    import hypothesis
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 30))
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (pages + 3 * 2**30,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.path.insert(0, str(folder))
    # The same examples for every fault, and no time spent on making them small.
    phases = [phase for phase in hypothesis.Phase if phase.name in ("explicit", "generate")]
    hypothesis.settings.register_profile("mutation", database=None, derandomize=True, phases=phases, deadline=None)
    hypothesis.settings.load_profile("mutation")
    set_up = hypothesis.settings.__init__

    def with_fewer(self: hypothesis.settings, parent: hypothesis.settings | None = None, **options: Any) -> None:
        if "max_examples" in options:
            options["max_examples"] = min(options["max_examples"], EXAMPLES)
        set_up(self, parent, **options)

    if has_kernels(module):
        hypothesis.settings.__init__ = with_fewer  # type: ignore[method-assign]
    files = [f"tests/patcher/{name}.py" for name in TESTS[module]]
    sys.path.insert(0, str(ROOT / "tests" / "patcher"))
    too_long = importlib.import_module("uncompiled").TOO_LONG
    without = " and ".join(f"not {word}" for word in too_long)
    arguments = ["-x", "-q", "-k", without, "-p", "no:cacheprovider", "--no-header", *files]
    code = int(pytest.main(arguments))
    import maskmend.patcher

    if code == 0 and not str(maskmend.patcher.__file__).startswith(str(folder)):
        return 9
    sys.stdout.flush()
    return code


# What came of it.


def table(found: list[dict[str, Any]]) -> str:
    lines = [
        "| module | places | drawn | noticed | out of time | unnoticed | share |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    modules = sorted({fault["module"] for fault in found})
    total: Counter[str] = Counter()
    for module in modules:
        own = [fault for fault in found if fault["module"] == module]
        count = Counter(fault["outcome"] for fault in own)
        count["places"], count["drawn"] = own[0]["places"], len(own)
        total += count
        lines.append(row(f"`{module}`", count))
    return "\n".join([*lines, row("all", total)])


def row(name: str, count: Counter[str]) -> str:
    share = 1 - count["unnoticed"] / count["drawn"]
    cells = [count[key] for key in ("places", "drawn", "noticed", "out of time", "unnoticed")]
    return "| " + " | ".join([name, *map(str, cells), f"{share:.0%}"]) + " |"


if __name__ == "__main__":
    main()
