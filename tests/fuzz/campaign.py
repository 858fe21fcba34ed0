"""Looks for inputs that a reader neither takes nor refuses, guided by coverage, and keeps those that reach new code.

    pip install atheris
    python tests/fuzz/campaign.py all --seconds 300 --findings build/findings
    python tests/fuzz/campaign.py job --seconds 3600 --findings build/findings --dry

Runs atheris (libFuzzer) on the targets of targets.py, each in a process of its own, beginning with the seeds of seeds.py and
what corpus/TARGET.zip holds. Then the corpus is reduced to what still covers everything and is written back, unless `--dry`
is given. What breaks a target lies in the folder of findings, and the exit code is 1. Prints a Markdown row for each target.

Compiled kernels tell nothing of where they have been. The one that reads untrusted counts is run as plain Python here;
test_corpus.py runs the kept inputs through it as it is compiled.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("rle", "polygons", "as_mask", "mask_image", "image", "job", "body", "message")
WORDS = (
    '"counts"',
    '"size"',
    '"segmentation"',
    '"image_id"',
    '"annotations"',
    '"images"',
    '"id"',
    '"file_name"',
    "NaN",
    "1e999",
)
WORDS += (
    '"iscrowd"',
    '"bbox"',
    '"area"',
    '"shapes"',
    '"points"',
    '"label"',
    '"segments_info"',
    '"result"',
    '"value"',
    "null",
)
WORDS += (
    '"masks"',
    '"image"',
    '"png"',
    '"original_width"',
    '"rle"',
    '"format"',
    "\\\\ud800",
    "IHDR",
    "IDAT",
    "PLTE",
    "acTL",
)
WORDS += (
    "content-disposition: form-data; name=",
    "\\x0d\\x0a--x\\x0d\\x0a",
    "VP8X",
    "VP8L",
    "Exif\\x00\\x00",
    "eXIf",
    "\\xff\\xc0",
)
HEAD = "| target | executions | a second | branches | findings | kept inputs |\n| --- | --- | --- | --- | --- | --- |"
LATE = [f"maskmend.clients.formats.{name}" for name in ("panoptic", "label_studio", "labelme", "brush_rle", "locate")]
LATE += [f"maskmend.service.{name}" for name in ("requests", "messages", "inputs", "multipart", "strict_json")]
"""Modules that targets load when they need them: by then it would be too late to instrument them."""
MOST_BYTES = 4096
"""Of an input; what needs more than that is for the tests written by hand."""


def work(name: str, again: str, arguments: list[str]) -> None:
    """In the process of one target: instrument, then run until the time is over. Does not return.

    `again` is a program that comes here too: libFuzzer starts itself anew when it reduces a corpus.
    """
    import atheris

    sys.path.insert(0, str(HERE))
    from maskmend.patcher import _jit

    compiled = _jit.compiled
    plain = {"maskmend.patcher._codec"}
    _jit.compiled = lambda kernel: kernel if kernel.__module__ in plain else compiled(kernel)
    kernels = [f"maskmend.patcher.{path.stem}" for path in Path(_jit.__file__).parent.glob("_*.py")]
    left = [module for module in kernels if module not in (*plain, "maskmend.patcher._headers")]
    left += [f"maskmend.patcher.{module}" for module in ("quadtree", "simplify", "outlines")]
    with atheris.instrument_imports(include=["maskmend"], exclude=left):
        from targets import TARGETS

        for module in LATE:
            importlib.import_module(module)

    import numpy as np

    # Python's own numbers know no overflow; numpy's warn where the compiled kernels do not.
    np.seterr(all="ignore")
    target = TARGETS[name]

    def one(data: bytes) -> None:
        target(data)

    atheris.Setup([again, *arguments], one)
    atheris.Fuzz()


def unpack(name: str, folder: Path) -> None:
    """Write the kept corpus and the seeds of a target into a folder."""
    sys.path.insert(0, str(HERE))
    from seeds import seeds

    folder.mkdir()
    for number, data in enumerate([*seeds(name), *kept(name)]):
        (folder / f"{number:05}").write_bytes(data)


def kept(name: str) -> list[bytes]:
    """The kept inputs of a target."""
    path = HERE / "corpus" / f"{name}.zip"
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as packed:
        return [packed.read(entry) for entry in packed.namelist()]


def keep(name: str, folder: Path) -> int:
    """Pack the inputs of a folder, smallest first, always to the same bytes; how many there are."""
    inputs = sorted({path.read_bytes() for path in folder.iterdir()}, key=lambda data: (len(data), data))
    (HERE / "corpus").mkdir(exist_ok=True)
    with zipfile.ZipFile(HERE / "corpus" / f"{name}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for number, data in enumerate(inputs):
            packed.writestr(zipfile.ZipInfo(f"{number:04}"), data, zipfile.ZIP_DEFLATED)
    return len(inputs)


def call(name: str, place: Path, *arguments: str) -> str:
    """Run the worker of a target; what it said."""
    again = place / "again"
    again.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, __file__, "--work", name, str(again)])} "$@"\n')
    again.chmod(0o755)
    return subprocess.run([again, *arguments], capture_output=True, text=True, errors="replace", check=False).stderr


def campaign(name: str, seconds: int, findings: Path, dry: bool) -> bool:
    """One target; whether something was found."""
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        folder, words, smallest = place / "corpus", place / "words", place / "smallest"
        unpack(name, folder)
        words.write_text("".join('"{}"\n'.format(word.replace('"', '\\"')) for word in WORDS))
        limits = (f"-max_len={MOST_BYTES}", "-timeout=20", "-rss_limit_mb=3000")
        prefix = findings / f"{name}-"
        until, runs, branches, found = time.monotonic() + seconds, 0, 0, 0
        # A finding ends a process: the next one goes on with what was learnt.
        while (left := int(until - time.monotonic())) > 5 and found < 20:
            options = (
                f"-max_total_time={left}",
                f"-dict={words}",
                f"-artifact_prefix={prefix}",
                "-print_final_stats=1",
            )
            said = call(name, place, str(folder), *limits, *options)
            executed = re.findall(r"number_of_executed_units: *(\d+)", said) or re.findall(r"^#(\d+)", said, re.M)
            runs += int(executed[-1]) if executed else 0
            branches = max([branches, *map(int, re.findall(r"cov: (\d+)", said))])
            if "Test unit written to" not in said:
                if not executed:
                    print(said[-3000:], file=sys.stderr)
                break
            found += 1
            (findings / f"{name}-{found}.log").write_text(said[-6000:])
        spent = seconds - max(0.0, until - time.monotonic())
        smallest.mkdir()
        call(name, place, "-merge=1", str(smallest), str(folder), *limits)
        count = len(list(smallest.iterdir())) if dry else keep(name, smallest)
    print(f"| `{name}` | {runs:,} | {runs / max(spent, 1):.0f} | {branches} | {found} | {count} |", flush=True)
    return found > 0


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], sys.argv[3], sys.argv[4:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=("all", *NAMES))
    parser.add_argument("--seconds", type=int, default=300, help="for each target")
    parser.add_argument("--findings", type=Path, required=True, help="folder for inputs that break something")
    parser.add_argument("--dry", action="store_true", help="leave the kept corpus as it is")
    given = parser.parse_args()
    print(HEAD, flush=True)
    names = NAMES if given.target == "all" else (given.target,)
    # Every target is run, whatever was found before.
    found = [campaign(name, given.seconds, given.findings, given.dry) for name in names]
    raise SystemExit(int(any(found)))


if __name__ == "__main__":
    main()
