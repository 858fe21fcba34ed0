"""The repository keeps its own rules: one-way imports, one version, a lock file fit to publish."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[1]
LAYERS = ("patcher", "models", "service", "clients")


def modules(layer: str) -> list[Path]:
    found = sorted((REPOSITORY / layer / "maskmend" / layer).rglob("*.py"))
    assert found
    return found


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_one_way(layer: str) -> None:
    above = LAYERS[LAYERS.index(layer) + 1 :]
    for file in modules(layer):
        upwards = {name for name in imported(file) for up in above if name.startswith(f"maskmend.{up}")}
        assert not upwards, f"{file.relative_to(REPOSITORY)} imports {sorted(upwards)}"


def test_the_patchers_own_modules_are_all_under_contract() -> None:
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (listed,) = (one["protected_modules"] for one in contracts if one["name"].startswith("patcher: modules with an"))
    own = {f"maskmend.patcher.{file.stem}" for file in modules("patcher") if re.match("_[a-z]", file.stem)}
    assert set(listed) == own


@pytest.mark.parametrize("layer", LAYERS)
def test_namespace_and_typing_markers(layer: str) -> None:
    assert not (REPOSITORY / layer / "maskmend" / "__init__.py").exists()
    assert (REPOSITORY / layer / "maskmend" / layer / "py.typed").is_file()


def test_untrusted_masks_never_reach_pycocotools() -> None:
    for layer in LAYERS:
        for file in modules(layer):
            assert not any(name.startswith("pycocotools") for name in imported(file)), file


def test_modules_stay_readable() -> None:
    long = {
        str(file.relative_to(REPOSITORY)): count
        for layer in LAYERS
        for file in modules(layer)
        if (count := len(file.read_text().splitlines())) > 300
    }
    assert not long


def test_the_installed_version_is_the_declared_one() -> None:
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert version("maskmend") == declared


def test_the_default_install_needs_no_torch() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert not any(name.startswith("torch") for name in project["dependencies"])
    assert not any(name.startswith("torch") for name in project["optional-dependencies"]["cpu"])


def closure(requirements: Iterable[str]) -> set[str]:
    """Names of these packages and of all that they need, as they are installed here."""
    found: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = Requirement(waiting.pop())
        name = plain(requirement.name)
        if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found.add(name)
            waiting += requires(name) or []
    return found


def test_a_client_alone_is_a_small_install() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    every = closure(project["dependencies"])
    known = closure(["numpy", "opencv-python-headless", "pydantic", "httpx"])
    assert len(every - known) <= 10, sorted(every - known)
    assert not every & {"torch", "openvino", "onnxruntime", "grpcio", "fastapi", "pycocotools", "pillow"}


def test_a_client_works_with_nothing_else_installed(tmp_path: Path) -> None:
    """Whatever is not among the dependencies cannot be imported; then a server that is not there is asked."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    allowed = closure(project["dependencies"]) | {"maskmend"}
    modules = {module for module, owners in packages_distributions().items() if not allowed & {*map(plain, owners)}}
    assert {"torch", "openvino", "fastapi", "grpc"} & modules
    code = f"""
import sys
for name in {sorted(modules)!r}:
    sys.modules[name] = None
import numpy as np
from maskmend.clients import AsyncClient, Client, ConnectionFailedError, Retries
AsyncClient("https://127.0.0.1:9")
mask = np.eye(32, dtype=bool)
try:
    Client("http://127.0.0.1:9", retries=Retries(0)).refine(np.zeros((32, 32, 3), np.uint8), mask)
except ConnectionFailedError as error:
    print("typed", error.code)
try:
    Client("grpc://127.0.0.1:9")
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "typed connection_failed" in done.stdout
    assert "pip install 'maskmend[grpc]'" in done.stdout


def plain(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def test_the_lock_has_hashes_and_no_addresses() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert not re.search(r"https?://|file:|--index-url|--extra-index-url|--find-links|--trusted-host", lock)
    requirements = re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)
    assert len(requirements) > 40
    assert "torch" not in requirements
    blocks = re.split(r"^(?=[A-Za-z0-9._-]+==)", lock, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    protobuf = re.search(r"^protobuf==(\d+)", lock, re.MULTILINE)
    assert protobuf is not None
    assert int(protobuf.group(1)) < 7


def test_shipped_weights_fit_their_budget() -> None:
    weights = REPOSITORY / "models" / "maskmend" / "models" / "weights"
    sizes = {file.stem: 0 for file in weights.glob("*.json")}
    # Their forms in int8 too.
    for file in (*weights.glob("*.*"), *weights.glob("int8/*.*")):
        if file.is_file():
            sizes[file.stem] += file.stat().st_size
    assert 0 < sizes["bpr-small"] + sizes["bpr-base"] <= 20 * 2**20
    assert max(sizes.values()) <= 40 * 2**20
    assert not [file for file in REPOSITORY.glob("*/maskmend/**/*") if file.suffix in {".pth", ".pt", ".pkl"}]
