from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from maskmend.clients.inside import LeadsOutError, file_inside, has_file, has_folder, printable
from maskmend.clients.json_files import loads, read_json, write_json
from maskmend.patcher.errors import JobError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "1.jpg").write_text("x")
    (tmp_path / "secret").write_text("x")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    (root / "own.jpg").symlink_to(root / "a" / "1.jpg")
    return root


def test_names_lead_to_files_inside(folder: Path) -> None:
    for name in ("a/1.jpg", "a\\1.jpg", "own.jpg", "a/../a/1.jpg"):
        path = file_inside(folder, name)
        assert path is not None
        assert path.read_text() == "x"
    assert file_inside(folder, "own.jpg") == folder / "own.jpg"


@pytest.mark.parametrize("name", ["none.jpg", "a", "x" * 300, "loop.jpg", "loop.jpg/x", "\ud800.jpg", "C:\\x.jpg"])
def test_what_is_no_file_is_none(folder: Path, name: str) -> None:
    assert file_inside(folder, name) is None
    assert not has_file(folder, name)


@pytest.mark.parametrize(
    "name", ["../secret", "..\\secret", "out", "up/secret", "/etc/hostname", "", "a\0b", "x" * 2000]
)
def test_what_leads_out_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(LeadsOutError):
        file_inside(folder, name)
    assert not has_file(folder, name)
    assert not has_folder(folder, name)


def test_folders_likewise(folder: Path) -> None:
    assert has_folder(folder, "a")
    assert not has_folder(folder, "up")
    assert not has_folder(folder, "loop.jpg")


def test_what_is_printed_can_be_written_anywhere() -> None:
    assert printable("caf\udce9 \ud800 é") == "caf? ? é"


@pytest.mark.parametrize("number", [2**127, -(2**63) - 1, 2**64, 2**63, 10**400])
def test_whole_numbers_stay_what_they_are(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.json"
    document = {"id": number, "area": 1.25, "é": [1, None, {"x": -number}]}
    path.write_text(json.dumps(document))
    read = read_json(path, "results")
    assert read == document
    assert type(read["id"]) is int
    write_json(tmp_path / "b.json", read)
    assert json.loads((tmp_path / "b.json").read_text()) == document
    write_json(tmp_path / "b.json", read, indent=True)
    assert json.loads((tmp_path / "b.json").read_text()) == document


def test_long_fractions_are_no_whole_numbers() -> None:
    assert loads(b'[0.12345678901234567890123, 1e-300, "00000000000000000000012"]') == [
        0.12345678901234567890123,
        1e-300,
        "00000000000000000000012",
    ]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"[NaN]", "holds NaN"),
        (b"[-Infinity]", "holds -Infinity"),
        (b"[1e999]", "holds 1e999"),
        (b"[12345678901234567890, 1e999]", "holds 1e999"),
        (b'[{"a": 1}', "line 1, column 10; is it complete"),
        (b'["a', "is it complete"),
        (b"[1,, 2]", "line 1, column 4"),
        ("[1]".encode("utf-16"), "UTF-16"),
        (b'["\xe9"]', "not UTF-8 at byte 2"),
        (b"[" * 200_000, "nested too deeply|not valid JSON"),
        (b"", "is it complete"),
    ],
)
def test_what_is_no_json_is_told(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(JobError, match=told):
        read_json(path, "results")


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path, "results") == {"a": 1}


def test_long_numbers_are_looked_for_quickly() -> None:
    data = json.dumps([[1.2345678901234567, 12.5] * 20] * 20_000).encode()
    began = time.perf_counter()
    loads(data)
    assert time.perf_counter() - began < 5
