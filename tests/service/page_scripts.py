"""Modules of a page run by themselves, in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Node = Callable[[str, Any], Any]
"""Runs a script against a page's modules: takes what `input` holds as JSON, gives what `print` is called with."""


def node_runner(program: str, modules: Path, folder: Path) -> Node:
    """Run scripts beside copies of the modules of one folder. `program`: node's path."""
    for module in modules.glob("*.js"):
        shutil.copy(module, folder)
    (folder / "package.json").write_text('{"type": "module"}')

    def run(script: str, given: Any) -> Any:
        head = (
            'import { readFileSync } from "node:fs";\n'
            'const input = JSON.parse(readFileSync(0, "utf8"));\n'
            "const print = (value) => console.log(JSON.stringify(value));\n"
        )
        (folder / "run.js").write_text(head + script)
        done = subprocess.run(
            [program, "run.js"], cwd=folder, input=json.dumps(given), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return run
