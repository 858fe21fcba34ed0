"""The doctor's parts: processors, control groups, versions, processes that do not come to an end."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from maskmend.clients.doctor import examination, extras, machine
from maskmend.clients.doctor.examination import _host, _probe
from maskmend.clients.doctor.findings import Check, Report

REPOSITORY = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
FOR_USE = [
    *PROJECT["dependencies"],
    *(
        text
        for name, every in PROJECT["optional-dependencies"].items()
        if name not in extras.DEVELOPERS
        for text in every
    ),
]

numbers = st.lists(st.integers(0, 30), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@given(installed=numbers, low=numbers, high=numbers)
def test_versions_are_compared_as_pip_compares_them(installed: str, low: str, high: str) -> None:
    wanted = f">={low},<{high}"
    assert extras.fits(installed, wanted) == (Version(installed) in SpecifierSet(wanted))


@pytest.mark.parametrize(
    ("installed", "fits"), [("2.13.0+cpu", True), ("3.0", False), ("2.6rc1", True), ("odd", False)]
)
def test_what_follows_the_numbers_is_passed_over(installed: str, fits: bool) -> None:
    assert extras.fits(installed, ">=2.6,<3") is fits


def test_what_this_project_asks_for_is_of_the_kind_that_is_compared() -> None:
    for text in FOR_USE:
        assert {each.operator for each in Requirement(text).specifier} <= {">=", "<"}, text


def test_missing_and_unfit_packages() -> None:
    found = {
        extra.name: extra
        for extra in extras.look(
            [
                "numpy<3,>=2.0",
                'no-such-package>=1; extra == "absent"',
                'numpy[x]<2; extra == "old"',
                "numpy<2; extra == 'partly'",
                'no-such-package; extra == "partly"',
                'no-such-package; extra == "dev"',
            ]
        )
    }
    assert {name: extra.state for name, extra in found.items()} == {
        "base": "works",
        "absent": "missing",
        "old": "broken",
        "partly": "missing",
    }
    assert found["absent"].remedy == "pip install 'maskmend[absent]' (brings no-such-package)"
    assert "numpy 2" in found["old"].remedy
    (base,) = extras.look(["no-such-package"])
    assert (base.state, base.remedy) == ("broken", "pip install maskmend (brings no-such-package)")


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2.0),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "50000 100000"}, 0.5),
        ("0::/of/the/host\n", {"cpu.max": "400000 100000"}, 4.0),
        ("3:cpu,io:/x\n2:memory:/y\n", {"cpu,io/x/cpu.cfs_quota_us": "300000", "cpu,io/x/cpu.cfs_period_us": "100000"}, 3.0),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("", {"cpu.max": "100000 100000"}, None),
        ("nonsense\n", {"cpu.max": "nonsense"}, None),
    ],
)  # fmt: skip
def test_limits_of_control_groups(tmp_path: Path, own: str, files: dict[str, str], limit: float | None) -> None:
    proc = write(tmp_path / "proc", {"self/cgroup": own})
    groups = write(tmp_path / "groups", files)
    assert machine.cpu_limit(proc, groups) == limit


def test_a_limit_below_the_cores_is_worth_a_hint(tmp_path: Path) -> None:
    proc = write(tmp_path / "proc", {"self/cgroup": "0::/\n"})
    seen = machine.look(proc, write(tmp_path / "groups", {"cpu.max": "50000 100000\n"}))
    assert seen.limit == 0.5
    assert any("--threads 1" in remedy for remedy in seen.remedies)


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("model name\t: A Chip\nflags\t\t: fpu avx2 avx512f avx_vnni amx_bf16\n", (True, True, True, True)),
        ("model name\t: Older\nflags\t\t: fpu avx avx2\n", (True, False, False, False)),
        ("Features\t: fp asimd\n", None),
        ("", None),
    ],
)
def test_what_the_processor_can(tmp_path: Path, text: str, features: tuple[bool, ...] | None) -> None:
    seen = machine.look(write(tmp_path, {"cpuinfo": text}), tmp_path / "none")
    assert (None if seen.features is None else tuple(seen.features.values())) == features


def test_a_library_that_kills_its_process_is_a_line_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"onnxruntime/__init__.py": "import os\nprint('{}')\nos.abort()\n"})
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    (check,) = _probe("runtime", "onnx", ["onnx", "bpr-small"], 60.0, None)
    assert check.state == "broken"
    assert "SIGABRT" in check.said
    assert "pip install --force-reinstall --no-cache-dir 'maskmend[onnx]'" in check.remedy


def test_a_library_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"onnxruntime/__init__.py": "raise ImportError('libsomething.so.1 is not there')\n"})
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    (check,) = _probe("runtime", "onnx", ["onnx", "bpr-small"], 60.0, None)
    assert check.state == "broken"
    assert "libsomething.so.1" in check.said
    assert "--force-reinstall" in check.remedy


def test_what_hangs_is_ended_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"onnxruntime/__init__.py": "import time\ntime.sleep(600)\n"})
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    (check,) = _probe("runtime", "onnx", ["onnx", "bpr-small"], 3.0, None)
    assert (check.state, check.said) == ("broken", "did not come to an end in 3 s")
    assert check.remedy.startswith("try again with a longer --timeout")
    assert "maskmend[onnx]" in check.remedy


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:secret@host:80/path?key=secret", "http://host:80"),
        ("grpc://host", "grpc://host"),
        ("http://[", "server"),
        ("http://host:port", "server"),
    ],
)
def test_urls_are_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert _host(url) == shown


@pytest.mark.parametrize(("state", "said"), [("missing", True), ("works", False), ("broken", False)])
def test_that_there_is_no_runtime_at_all_is_said(monkeypatch: pytest.MonkeyPatch, state: str, said: bool) -> None:
    def probe(area: str, label: str, *_: object) -> Iterator[Check]:
        yield Check(area, label, state if label == "openvino" else "missing" if area == "runtime" else "works", "")  # type: ignore[arg-type]

    monkeypatch.setattr(examination, "_probe", probe)
    tried: list[str] = []
    report = examination.examine(saw=tried.append)
    assert tried == ["geometry", "weights", "openvino", "onnx", "torch", "tensorrt"]
    assert any("to refine here" in line for line in report.could_have) is said
    assert any(check.state == "broken" for check in report.checks) is (state == "broken")


def test_what_to_do_is_said_once_and_apart_from_what_could_be_had() -> None:
    checks = [
        Check("runtime", "a", "missing", "", "install a"),
        Check("runtime", "b", "broken", "", "mend b"),
        Check("runtime", "c", "broken", "", "mend b"),
        Check("runtime", "d", "works", "", "nothing"),
        Check("runtime", "any", "missing", "", "install any"),
    ]
    here = machine.look(Path("/nowhere"), Path("/nowhere"))
    absent = extras.look(['no-such-package; extra == "more"'])
    report = Report("1", "", here, absent, checks)
    assert report.what_to_do == ["mend b"]
    assert report.could_have == ["pip install 'maskmend[more]' (brings no-such-package)", "install any"]
    assert not report.ok
    assert Report("1", "", here, absent, checks[::3]).ok
