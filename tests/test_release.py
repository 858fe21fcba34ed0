"""What is released: wheel, source archive and bill of materials, as the Makefile makes them, and the wheel in use."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LAYERS = ("patcher", "models", "service", "clients")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PHOTOGRAPH = "000000401416.jpg"


def make(target: str, folder: Path) -> None:
    """Run a target with the Python of the tests in place of the virtual environment that it would make."""
    if shutil.which("make") is None:
        pytest.skip("make is not on the PATH")
    command = ["make", target, f"VENV={sys.prefix}", f"DIST={folder}", "-o", f"{sys.prefix}/.dev"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def shipped() -> dict[str, Path]:
    """Files of the four packages, by their names in a wheel."""
    found = {}
    for layer in LAYERS:
        root = REPOSITORY / layer
        for file in (root / "maskmend").rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                found[file.relative_to(root).as_posix()] = file
    return found


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not all(importlib.util.find_spec(module) for module in ("build", "hatchling")):
        pytest.skip("build or hatchling is not installed")
    folder = tmp_path_factory.mktemp("dist")
    make("dist", folder)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


def test_names_say_the_version(dist: Path) -> None:
    stem = f"maskmend-{PROJECT['version']}"
    assert {file.name for file in dist.iterdir()} == {f"{stem}.tar.gz", f"{stem}-py3-none-any.whl"}


def test_the_wheel_is_the_four_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        inside = set(packed.namelist())
        records = packed.read(next(name for name in inside if name.endswith(".dist-info/RECORD"))).decode()
        metadata = Parser().parsestr(
            packed.read(next(name for name in inside if name.endswith("METADATA"))).decode(), headersonly=True
        )
    own = {name for name in inside if ".dist-info/" not in name}
    assert own == set(shipped())
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in inside)
    # Made from the source archive, and byte for byte what is in the repository.
    hashes = dict(line.rsplit(",", 2)[:2] for line in records.splitlines())
    for name, file in shipped().items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
        assert hashes[name] == f"sha256={digest}", name
    assert (metadata["Version"], metadata["License-Expression"]) == (PROJECT["version"], "Apache-2.0")
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])


def test_the_wheel_has_what_people_would_miss_and_nothing_of_the_developers(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        inside = packed.namelist()
    sets = {Path(name).stem for name in inside if name.startswith("maskmend/models/weights/") and name.count("/") == 3}
    assert {"bpr-small", "bpr-base", "transfiner-small", "refinemask-small", "sharpmask-small"} <= sets
    for name in sets:
        for kind in ("json", "onnx", "safetensors", "md"):
            assert f"maskmend/models/weights/{name}.{kind}" in inside
        assert f"maskmend/models/weights/golden/{name}.npz" in inside
    for name in (
        "maskmend/service/web/index.html",
        "maskmend/service/proto/maskmend.proto",
        "maskmend/clients/report/static/page.html",
        "maskmend/models/training/configs/bpr-small.yaml",
        "maskmend/patcher/py.typed",
    ):
        assert name in inside
    assert not [name for name in inside if Path(name).suffix in {".pth", ".pt", ".pkl", ".pyc", ".nbc", ".nbi"}]
    assert not [name for name in inside if {"tests", "benchmarks", "docs"} & set(Path(name).parts)]


def test_the_source_archive_holds_what_a_wheel_is_made_of(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as packed:
        names = [Path(member.name).parts[1:] for member in packed.getmembers() if member.isfile()]
    files = {parts[0] for parts in names if len(parts) == 1}
    assert files - {".gitignore"} == {
        "CHANGELOG.md",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "SECURITY.md",
        "pyproject.toml",
    }
    assert {parts[:2] for parts in names if len(parts) > 1} == {(layer, "maskmend") for layer in LAYERS}


def bring_kernels(target: Path) -> None:
    """Compiled kernels of the checkout for the same sources elsewhere: to compile them anew would test numba, for 20 s.

    numba knows a source by its size and time of change; that the text is the same, another test says.
    """
    for name, file in shipped().items():
        if file.suffix == ".py":
            changed = file.stat()
            os.utime(target / name, ns=(changed.st_atime_ns, changed.st_mtime_ns))
            for kernel in (file.parent / "__pycache__").glob(f"{file.stem}.*.nb[ci]"):
                (target / name).parent.joinpath("__pycache__").mkdir(exist_ok=True)
                shutil.copy(kernel, (target / name).parent / "__pycache__")


def refined(python: Path, coarse: Path, output: Path, environment: dict[str, str]) -> bytes:
    images = REPOSITORY / "samples" / "images"
    command = [python, "-m", "maskmend.clients.cli", "refine", coarse, "--images", images, "-o", output]
    done = subprocess.run(
        [*map(str, command)],
        cwd=output.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return output.read_bytes()


def test_the_wheel_in_a_clean_virtual_environment_refines_to_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    """The wheel is installed by pip; the packages it needs are those of the tests' own Python, not fetched again."""
    pytest.importorskip("openvino", reason="the openvino runtime is not installed")
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        f"--python={python}",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
    ]
    subprocess.run([*map(str, install)], check=True)
    (target,) = folder.glob("lib/python3*/site-packages")
    # A .pth file of that folder, such as that of an editable maskmend, is not read.
    needed = [place for place in sys.path if Path(place).name == "site-packages"]
    (target / "needed.pth").write_text("\n".join(needed) + "\n")
    bring_kernels(target)
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    code = "import maskmend.clients as c, maskmend.patcher as p; print(c.__file__); print(p.__file__)"
    places = subprocess.run([python, "-c", code], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True)
    assert all(Path(place).is_relative_to(folder) for place in places.stdout.split())
    said = subprocess.run(
        [folder / "bin" / "maskmend", "--version"], env=clean, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == f"maskmend {PROJECT['version']}"
    records = json.loads((REPOSITORY / "samples" / "coarse.json").read_text())
    coarse = tmp_path / "coarse.json"
    coarse.write_text(json.dumps([each for each in records if each["file_name"].endswith(PHOTOGRAPH)]))
    installed = refined(python, coarse, tmp_path / "installed.json", clean)
    checkout = refined(Path(sys.executable), coarse, tmp_path / "checkout.json", dict(os.environ))
    assert installed == checkout


def test_the_bill_of_materials_names_the_lock_and_nothing_that_changes(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py", reason="cyclonedx-bom is not installed")
    make("sbom", tmp_path)
    text = (tmp_path / "sbom.json").read_text()
    bill = json.loads(text)
    # With these two, and with paths of this machine, each one would be another file.
    assert "serialNumber" not in bill
    assert "timestamp" not in bill["metadata"]
    assert str(REPOSITORY) not in text
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    main = bill["metadata"]["component"]
    assert (main["name"], main["version"]) == ("maskmend", PROJECT["version"])
    held = {component["name"].lower(): component["version"] for component in bill["components"]}
    lock = (REPOSITORY / "requirements.lock").read_text()
    locked = dict(
        line.split(" ")[0].lower().split("==") for line in lock.splitlines() if "==" in line and line[0].isalnum()
    )
    assert held == locked
    assert {"numpy", "openvino", "fastapi"} <= set(held)
    hashes = [reference.get("hashes") for each in bill["components"] for reference in each["externalReferences"]]
    assert all(hashes)
