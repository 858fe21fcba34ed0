"""Every code block of README.md and docs/ is run, in order, page by page, on real files; the rest is counted and named."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.dom import minidom

import pytest
from tour_blocks import PARSED, RUN, Block, blocks, pages
from tour_world import furnish, names

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = pages(REPOSITORY)
SECONDS = 120
# With this, a refusal of the server ends the block; curl alone would print it and be content.
PREAMBLE = 'set -euo pipefail\ncurl() { command curl --silent --show-error --fail-with-body "$@"; }\n'
# Nobody looks at what a command would open in a browser.
ENVIRONMENT = {"NO_COLOR": "1", "BROWSER": "true"}

Start = Callable[[tuple[str, ...]], "tuple[int, int]"]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Real servers, one per list of flags, kept for all pages; gives the ports of HTTP and gRPC."""
    started: dict[tuple[str, ...], tuple[int, int]] = {}
    with ExitStack() as stack:

        def call(flags: tuple[str, ...]) -> tuple[int, int]:
            if flags not in started:
                from running import running

                log = tmp_path_factory.mktemp("server") / "log"
                found = stack.enter_context(running(log, *flags))
                started[flags] = (found.port, found.grpc_port or 0)
            return started[flags]

        yield call


class Tour:
    """One page: its folder, the names its Python blocks share, its server."""

    def __init__(self, page: str, folder: Path, start: Start) -> None:
        self.folder, self.start = folder, start
        self.names = names(page)
        self.flags: tuple[str, ...] = ()
        self.ran = 0
        self.skipped: list[str] = []

    def take(self, block: Block, runner: asyncio.Runner) -> None:
        """Run, parse or leave a block."""
        assert block.language, f"{block.where}: the fence names no language; use sh, python, json ... or text"
        assert block.verb in ("", "skip", "needs", "exits"), f"{block.where}: unknown comment {block.verb}"
        if block.language in PARSED:
            parse(block)
        if block.language not in RUN:
            return
        reason = unfit(block)
        if reason is not None:
            spell(block)
            self.skipped.append(f"{block.where}: {reason}")
            return
        self.skipped += [f"{block.where}: {line}" for line in block.left_out]
        text = self.addressed(self.served(block))
        if block.language == "sh":
            self.shell(block, text)
        else:
            python(block, text, self.names, runner)
        self.ran += 1

    def served(self, block: Block) -> str:
        """The text without the commands that are not for here; `maskmend serve` starts a real server."""
        if block.language != "sh":
            return block.text
        kept = []
        for line in block.text.splitlines():
            if line.startswith("maskmend serve"):
                self.flags = tuple(shlex.split(line.rstrip("& "), comments=True)[2:])
                self.start(self.flags)
            elif line not in block.left_out:
                kept.append(line)
        return "\n".join(kept)

    def addressed(self, text: str) -> str:
        """The text with the ports of the running server."""
        for host in ("127.0.0.1", "localhost"):
            if f"{host}:8000" in text or f"{host}:8001" in text:
                http, grpc = self.start(self.flags)
                text = text.replace(f"{host}:8000", f"127.0.0.1:{http}").replace(f"{host}:8001", f"127.0.0.1:{grpc}")
        return text

    def shell(self, block: Block, text: str) -> None:
        done = subprocess.run(
            ["bash", "-c", PREAMBLE + text],
            cwd=self.folder,
            env={**os.environ, **ENVIRONMENT, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        wanted = int(block.rest) if block.verb == "exits" else 0
        said = f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert done.returncode == wanted, f"{block.where} ended with {done.returncode}:\n{text}\n{said}"


def python(block: Block, text: str, shared: dict[str, Any], runner: asyncio.Runner) -> None:
    # Numbers of lines are those of the page, so that a traceback leads there.
    source = "\n" * (block.line - 1) + text
    code = compile(source, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        runner.run(eval(code, shared))
    else:
        exec(code, shared)


def spell(block: Block) -> None:
    """See that what is not run is at least a programme."""
    if block.language == "python":
        compile("\n" * (block.line - 1) + block.text, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block.where} is no shell script: {done.stderr}"


def parse(block: Block) -> None:
    """See that data is what its fence says."""
    if block.language == "json":
        for line in [block.text] if block.text.lstrip()[0] in "[{" else block.text.splitlines():
            json.loads(line)
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "xml":
        minidom.parseString(block.text)
    else:
        yaml = pytest.importorskip("yaml", reason="YAML in the pages is parsed by pyyaml")
        assert list(yaml.safe_load_all(block.text))


def unfit(block: Block) -> str | None:
    """Why a block is not run here, or None."""
    if block.verb == "skip":
        return block.rest
    if block.verb == "needs" and importlib.util.find_spec(block.rest) is None:
        return f"needs {block.rest}"
    text = block.text
    talks = any(f"{host}:800{n}" in text for host in ("127.0.0.1", "localhost") for n in (0, 1))
    if (talks or "maskmend serve" in text) and importlib.util.find_spec("fastapi") is None:
        return "needs the serve extra"
    if "grpc://" in text and importlib.util.find_spec("grpc") is None:
        return "needs the grpc extra"
    if block.language == "sh":
        if "maskmend evaluate" in text and importlib.util.find_spec("faster_coco_eval") is None:
            return "needs the evaluate extra"
        if "curl" in text and shutil.which("curl") is None:
            return "needs curl"
    refines = "Refiner(" in text or "maskmend refine" in text
    if refines and not any(importlib.util.find_spec(name) for name in ("openvino", "onnxruntime")):
        return "needs the cpu extra"
    return None


@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks(REPOSITORY / page, page)
    if not found:
        return
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    tour = Tour(page, tmp_path, start)
    with asyncio.Runner() as runner:
        for block in found:
            tour.take(block, runner)
    print(f"{page}: {tour.ran} of {len(found)} blocks run")
    print(*tour.skipped, sep="\n")


def test_what_the_tour_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, and says aloud, what is not run; a reason must be one."""
    found = [block for page in PAGES for block in blocks(REPOSITORY / page, page) if block.language in RUN]
    left = [block for block in found if unfit(block) is not None]
    lines = [f"  {block.where}: {unfit(block)}" for block in left]
    lines += [f"  {block.where}: not run: {line}" for block in found if block not in left for line in block.left_out]
    with capsys.disabled():
        print(f"\ntour: {len(found) - len(left)} of {len(found)} blocks run; left out:", *lines, sep="\n")
    assert all(len(block.rest.split()) >= 2 for block in found if block.verb == "skip")
    assert len(left) < len(found)


def test_blocks_are_found_and_comments_belong_to_the_next_fence(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- tour: skip it takes a month -->\n```sh\na\n```\n\n```python title='x'\nb\n\nc\n```\n"
        "- item\n  ```json\n  {}\n  ```\n<!-- tour: exits 3 -->\n\n````text\n```\n````\n```\n",
    )
    found = blocks(page, "page.md")
    assert [(b.language, b.text, b.line, b.verb, b.rest) for b in found] == [
        ("sh", "a\n", 3, "skip", "it takes a month"),
        ("python", "b\n\nc\n", 7, "", ""),
        ("json", "{}\n", 13, "", ""),
        ("text", "```\n", 18, "", ""),
        ("", "\n", 21, "", ""),
    ]


def test_what_is_skipped_must_still_be_a_programme(tmp_path: Path, start: Start) -> None:
    furnish(tmp_path)
    with asyncio.Runner() as runner:
        tour = Tour("page.md", tmp_path, start)
        tour.take(Block("page.md", "python", "await x\n", 1, "skip", "nothing awaits x"), runner)
        assert tour.skipped == ["page.md:1: nothing awaits x"]
        for language, text in (("python", "a b\n"), ("sh", "if true\n")):
            with pytest.raises((SyntaxError, AssertionError)):
                tour.take(Block("page.md", language, text, 1, "skip", "takes a whole month"), runner)


@pytest.mark.parametrize(
    ("language", "text", "match"),
    [
        ("sh", "maskmend models list\nfalse\n", "ended with 1"),
        ("sh", "maskmend refine nothing.json --images photos --output o.json\n", "ended with 2"),
        ("python", "masks[7]\n", "out of range"),
        ("json", '{"a": }\n', "Expecting value"),
        ("", "ls\n", "names no language"),
    ],
)
def test_a_block_that_does_not_work_fails(language: str, text: str, match: str, tmp_path: Path, start: Start) -> None:
    furnish(tmp_path)
    with asyncio.Runner() as runner, pytest.raises((AssertionError, LookupError, ValueError), match=match):
        Tour("page.md", tmp_path, start).take(Block("page.md", language, text, 1), runner)
