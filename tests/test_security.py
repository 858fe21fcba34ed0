"""What docs/security.md promises of the code, read from the code itself."""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LAYERS = ("patcher", "models", "service", "clients")
IMPORTER = Path("models/maskmend/models/importer.py")
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
SAFE_LOADERS = {"SafeLoader", "CSafeLoader"}


def sources() -> list[Path]:
    found = [file for layer in LAYERS for file in sorted((REPOSITORY / layer / "maskmend").rglob("*.py"))]
    assert len(found) > 150
    return found


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or an attribute; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def said(call: ast.Call, name: str) -> object:
    """The constant that an argument is given by its name; None if it is not given."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value.value if isinstance(keyword.value, ast.Constant) else "not a constant"
    return None


def faults(tree: ast.AST) -> Iterator[str]:
    """Ways in which bytes from outside could become code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"imports {alias.name}" for alias in node.names if alias.name.partition(".")[0] in PICKLES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in PICKLES:
                yield f"imports from {node.module}"
            if node.module == "torch" and any(alias.name == "load" for alias in node.names):
                yield "imports torch.load under a name of its own"
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name == "torch.load" and said(node, "weights_only") is not True:
                yield "calls torch.load without weights_only=True"
            if name.endswith(("np.load", "numpy.load")) and said(node, "allow_pickle") is not False:
                yield "calls numpy.load without allow_pickle=False"
            if name in ("eval", "exec", "os.system", "os.popen", "__import__"):
                yield f"calls {name}"
            if said(node, "shell") not in (None, False):
                yield f"calls {name} with a shell"
            if name in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"):
                loaders = {dotted(argument).rpartition(".")[2] for argument in node.args[1:]}
                loaders |= {dotted(keyword.value).rpartition(".")[2] for keyword in node.keywords}
                if not loaders & SAFE_LOADERS:
                    yield f"calls {name} without a safe loader"
            if name.endswith(("jit.load", "extractall", "mktemp")):
                yield f"calls {name}"


def test_no_module_turns_bytes_into_code() -> None:
    found = {str(file.relative_to(REPOSITORY)): list(faults(ast.parse(file.read_text()))) for file in sources()}
    assert {file: said for file, said in found.items() if said} == {}


def test_pytorch_files_are_read_by_the_importer_and_the_training_alone() -> None:
    readers = {
        file.relative_to(REPOSITORY)
        for file in sources()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and dotted(node.func) == "torch.load"
    }
    # The training reads the checkpoint that it wrote itself.
    assert readers == {IMPORTER, Path("models/maskmend/models/training/loop.py")}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import joblib.memory",
        "from torch import load",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "torch.load(f, weights_only=flag)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "torch.jit.load(f)",
        "archive.extractall(folder)",
    ],
)
def test_each_of_these_would_be_found(code: str) -> None:
    assert list(faults(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(f, weights_only=True)",
        "np.load(f, allow_pickle=False)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "subprocess.run(words)",
        "network.eval()",
    ],
)
def test_none_of_these_is_taken_for_one(code: str) -> None:
    assert not list(faults(ast.parse(code)))


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", REPOSITORY / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLEAN = {"name": "numpy", "version": "2.4.6", "vulns": []}
UNKNOWN = {"name": "private", "skip_reason": "Dependency not found"}
BAD = {"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}


@pytest.mark.parametrize(
    ("dependencies", "code", "word"),
    [
        ([CLEAN, CLEAN], 0, "2 packages audited"),
        ([CLEAN, UNKNOWN], 0, "1 packages audited, 0 vulnerabilities known; not known there, so not audited: private"),
        ([CLEAN, BAD], 1, "old 1.0: PYSEC-1, mended in 1.1"),
        ([UNKNOWN, UNKNOWN], None, "knows none of the packages"),
        ([], None, "knows none of the packages"),
    ],
)
def test_an_audit_that_audited_nothing_is_not_taken_for_a_clean_one(
    audit: ModuleType, dependencies: list[dict[str, object]], code: int | None, word: str
) -> None:
    found, text = audit.judge(json.dumps({"dependencies": dependencies}), "")
    assert found == code
    assert word in text


def test_an_audit_without_an_answer_says_why(audit: ModuleType) -> None:
    noise = "Traceback\n  ...\nConnectionError: Failed to resolve 'advisories'\n"
    found, text = audit.judge("", noise)
    assert found is None
    assert "Failed to resolve" in text
