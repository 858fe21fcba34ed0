"""Tools of others that check what deploy/ holds. Each is installed once, by name, into a cache; where that cannot be, tests
that need it are skipped and say why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("MASKMEND_TEST_TOOLS") or Path.home() / ".cache" / "maskmend-test-tools")
HELM = "helm-sdkpy-0.1.32"
CHART = HERE.parents[1] / "deploy" / "helm" / "maskmend"


@dataclass(frozen=True)
class Rendered:
    """What Helm would have sent to a cluster: objects, hooks, and the text for whoever installs."""

    objects: list[dict[str, Any]]
    hooks: list[dict[str, Any]] = field(default_factory=list)
    notes: str = ""

    def of(self, kind: str, ending: str = "") -> dict[str, Any]:
        """The one object of a kind, or the one whose name ends so."""
        found = [o for o in self.objects if o["kind"] == kind and o["metadata"]["name"].endswith(ending)]
        assert len(found) == 1, f"{kind} {ending}: {len(found)}"
        return found[0]

    def kinds(self) -> list[str]:
        return sorted(o["kind"] for o in self.objects)


class HelmError(Exception):
    """What Helm says against a chart or its values."""


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made once; several processes may ask for it."""
    final = CACHE / name
    if not final.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=CACHE))
        try:
            make(fresh)
            fresh.rename(final)
        except OSError:
            if not final.exists():
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return final


def debian(package: str) -> Path:
    """What a Debian package holds, unpacked and not installed."""
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if apt is None or dpkg is None:
        pytest.skip(f"{package} comes as a Debian package, and there is no apt-get here")

    def make(folder: Path) -> None:
        lists, cache = folder / "apt" / "lists", folder / "apt" / "cache"
        for made in (lists / "partial", cache / "archives" / "partial"):
            made.mkdir(parents=True)
        own = [apt, "-qq", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
        # First with the lists that are here, if any; then with fresh ones, not of the system's.
        for command in ([apt, "-qq", "download"], [*own, "update"], [*own, "download"]):
            words = [*command, package] if command[-1] == "download" else command
            subprocess.run(words, cwd=folder, capture_output=True, timeout=300)
            if found := list(folder.glob("*.deb")):
                subprocess.run([dpkg, "-x", found[0], folder / "root"], check=True)
                found[0].unlink()
                shutil.rmtree(folder / "apt")
                return
        pytest.skip(f"apt-get reaches no registry with {package} here")

    return cached(f"debian-{package}", make) / "root"


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    return found or str(debian("prometheus") / "usr" / "bin" / "promtool")


@pytest.fixture(scope="session")
def compose_schema() -> dict[str, Any]:
    """That of the Compose specification as Debian ships it, which is older than the field `name`."""
    (file,) = debian("docker-compose").rglob("compose_spec.json")
    schema: dict[str, Any] = json.loads(file.read_text())
    assert "name" not in schema["properties"]
    schema["properties"]["name"] = {"type": "string"}
    return schema


@pytest.fixture(scope="session")
def helm() -> Callable[..., Any]:
    """Runs `helm_render.py`, with Helm's own Go library, in a virtual environment of its own."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("Helm's library comes as a wheel for Linux on x86-64 only")

    def make(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        # The wheel asks for a younger Python than it needs: what is in it is C called through cffi.
        pip = [sys.executable, "-m", "pip", f"--python={folder}/venv/bin/python", "install", "--quiet", "--no-deps"]
        pip += ["--ignore-requires-python", "--only-binary=:all:", "--require-hashes"]
        done = subprocess.run([*pip, "-r", str(HERE / "helm-requirements.txt")], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"Helm's library cannot be installed here: {done.stderr.strip().splitlines()[-1][:200]}")

    python = cached(HELM, make) / "venv" / "bin" / "python"

    def call(*command: str, values: dict[str, Any] | None = None) -> Any:
        # No configuration of the developer's, and no cluster but the stand-in.
        with tempfile.TemporaryDirectory() as home:
            env = {"PATH": os.environ["PATH"], "HOME": home}
            done = subprocess.run(
                [python, HERE / "helm_render.py", *command, str(CHART)],
                input=json.dumps(values or {}),
                capture_output=True,
                text=True,
                env=env,
                timeout=120,
            )
        assert done.returncode == 0, done.stderr[-3000:]
        answer = json.loads(done.stdout)
        if "error" in answer:
            raise HelmError(answer["error"])
        return answer

    return call


@pytest.fixture(scope="session")
def render(helm: Callable[..., Any]) -> Callable[..., Rendered]:
    """`helm install` up to where the cluster would get the objects; `files` are values files of the chart."""
    known: dict[str, Rendered] = {}

    def call(*files: str, **values: Any) -> Rendered:
        merged: dict[str, Any] = {}
        for given in (*(yaml.safe_load((CHART / file).read_text()) for file in files), values):
            merged = merge(merged, given)
        key = json.dumps(merged, sort_keys=True)
        if key not in known:
            answer = helm("render", values=merged)
            hooks = [yaml.safe_load(hook["manifest"]) for hook in answer["hooks"]]
            objects = [o for o in yaml.safe_load_all(answer["manifest"]) if o is not None]
            known[key] = Rendered(objects, hooks, answer["notes"])
        return known[key]

    return call


def merge(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """As Helm does: objects are merged, anything else is replaced."""
    found = dict(base)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = merge(found[key], value) if both else value
    return found


@pytest.fixture(scope="session")
def helm_error() -> type[HelmError]:
    return HelmError
