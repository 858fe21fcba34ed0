"""Jobs whose files are at URLs: the same bytes as here, nothing outside the images folder, nothing fetched for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_job import SmallJob
from typer.testing import CliRunner

from maskmend.clients import remote_folder, storage
from maskmend.clients.cli.app import app
from maskmend.clients.inside import LeadsOutError
from maskmend.clients.places import Places
from maskmend.clients.remote_folder import RemoteFolder
from maskmend.clients.storage import StorageError
from maskmend.patcher.errors import ImageError, JobError, MaskmendError, OptionError

fsspec = pytest.importorskip("fsspec", reason="the remote extra is not installed")

PHOTOS = "memory://bucket/photos"


@pytest.fixture
def memory(job: SmallJob) -> Iterator[Any]:
    """The files of the small job in fsspec's memory, and a photograph beside the folder that nobody may read."""
    found = fsspec.filesystem("memory")
    for path in job.images.iterdir():
        found.pipe_file(f"/bucket/photos/{path.name}", path.read_bytes())
    found.pipe_file("/bucket/secret.png", (job.images / "photo_1.png").read_bytes())
    found.pipe_file("/bucket/coarse.json", job.coarse.read_bytes())
    found.pipe_file("/bucket/truth.json", job.truth.read_bytes())
    yield found
    found.rm("/bucket", recursive=True)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between tries."""
    monkeypatch.setattr(storage.time, "sleep", lambda seconds: None)


def with_troubles(job: SmallJob) -> None:
    truth, records = json.loads(job.truth.read_text()), json.loads(job.coarse.read_text())
    (job.images / "photo_3.png").unlink()
    truth["images"] += [{"id": 9, "file_name": "../secret.png"}, {"id": 10, "file_name": "/etc/passwd"}]
    records += [{**records[1], "image_id": 9}, {**records[1], "image_id": 10}]
    job.truth.write_text(json.dumps(truth))
    job.coarse.write_text(json.dumps(records))


def refine(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["refine", *map(str, arguments), "--threads", "1"])


def test_the_same_bytes_as_here(job: SmallJob, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with_troubles(job)
    memory = request.getfixturevalue("memory")
    (tmp_path / "secret.png").write_bytes(b"here too")
    here = tmp_path / "out.json"
    done = refine(job.coarse, "--images", job.images, "--annotations", job.truth, "-o", here)
    (tmp_path / "journal").mkdir()
    there = refine(
        *("memory://bucket/coarse.json", "--images", PHOTOS, "--annotations", "memory://bucket/truth.json"),
        *("-o", "memory://bucket/out.json", "--journal", tmp_path / "journal"),
    )
    assert (done.exit_code, there.exit_code) == (3, 3), there.output
    assert memory.cat_file("/bucket/out.json") == here.read_bytes()
    errors = memory.cat_file("/bucket/out.json.errors.jsonl")
    assert errors == (tmp_path / "out.json.errors.jsonl").read_bytes()
    messages = [json.loads(line)["message"] for line in errors.splitlines()]
    assert sum("not in the images folder" in message for message in messages) == 2
    assert sum("leads out of the images folder" in message for message in messages) == 2
    # What is done stays nowhere else.
    assert not list((tmp_path / "journal").iterdir())
    assert {path.rpartition("/")[2] for path in memory.ls("/bucket", detail=False)} == {
        *("photos", "secret.png", "coarse.json", "truth.json", "out.json", "out.json.errors.jsonl")
    }


def test_a_storage_that_fails_midway_leaves_a_job_to_resume(
    job: SmallJob, tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    fails = True
    real = type(memory).cat_file

    def cat_file(self: Any, path: str, *args: Any, **more: Any) -> Any:
        read.append(path.rpartition("/")[2])
        if fails and path.endswith("photo_3.png"):
            raise ConnectionResetError
        return real(self, path, *args, **more)

    monkeypatch.setattr(type(memory), "cat_file", cat_file)
    command = [job.coarse, "--images", PHOTOS, "--annotations", job.truth, "-o", tmp_path / "out.json"]
    broken = refine(*command)
    assert isinstance(broken.exception, JobError)
    assert "did not answer 3 times" in str(broken.exception)
    assert "--resume" in str(broken.exception)
    assert read.count("photo_3.png") == 3 * 2
    assert len((tmp_path / "out.json.partial.jsonl").read_text().splitlines()) == 3
    fails = False
    read.clear()
    done = refine(*command, "--resume")
    assert done.exit_code == 0, done.output
    # Photographs that are done are not fetched again; that they are the same is seen without.
    assert sorted(read) == ["photo_3.png", "photo_4.png"]
    assert refine(*command[:1], "--images", job.images, *command[3:5], "-o", tmp_path / "here.json").exit_code == 0
    assert (tmp_path / "out.json").read_bytes() == (tmp_path / "here.json").read_bytes()


def test_a_photograph_that_changed_there_has_another_stamp(memory: Any, tmp_path: Path) -> None:
    stamps = []
    for turn in range(2):
        (tmp_path / str(turn)).mkdir()
        folder = RemoteFolder(PHOTOS, tmp_path / str(turn))
        path = folder.file("photo_1.png")
        assert path is not None
        assert path.read_bytes() == memory.cat_file("/bucket/photos/photo_1.png")
        stamps.append([path.stat().st_size, path.stat().st_mtime_ns])
        # Known without the file, and by the file, it is the same.
        other = RemoteFolder(PHOTOS, tmp_path)
        assert other.stamp("photo_1.png") == stamps[-1] == folder.stamp("photo_1.png")
        assert other.stamp("none.png") == []
        folder.close()
        other.close()
        memory.pipe_file("/bucket/photos/photo_1.png", memory.cat_file("/bucket/photos/photo_1.png"))
    assert stamps[0] != stamps[1]


def test_sizes_are_checked_before_anything_is_read(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_folder, "MAX_BYTES", 10)
    monkeypatch.setattr(type(memory), "cat_file", lambda *args, **more: pytest.fail("it was read"))
    folder = RemoteFolder(PHOTOS, tmp_path)
    with pytest.raises(ImageError, match="at most 10 are read"):
        folder.file("photo_1.png")
    assert folder.file("none.png") is None
    folder.close()


def test_old_photographs_make_room(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_folder, "_KEPT_FILES", 2)
    spool = tmp_path / "spool"
    spool.mkdir()
    folder = RemoteFolder(PHOTOS, spool)
    for number in (1, 2, 3, 4, 1):
        path = folder.file(f"photo_{number}.png")
        assert path is not None
        assert path.exists()
        assert len(list(spool.rglob("*.png"))) <= 3
    folder.close()


parts = st.sampled_from(["..", ".", "a", "photo_1.png", "", "\\", "//", "memory:", "%2e%2e", "\0", "é"])
names = st.lists(parts).map("/".join)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.one_of(names, st.text(max_size=30)))
def test_no_name_leads_out(name: str, memory: Any, tmp_path: Path) -> None:
    asked: list[str] = []
    folder = RemoteFolder(PHOTOS, tmp_path)

    class Watched:
        def info(self, path: str) -> Any:
            asked.append(path)
            return memory.info(path)

        def cat_file(self, path: str, **more: Any) -> Any:
            asked.append(path)
            return memory.cat_file(path, **more)

    folder._storage = Watched()
    try:
        found = folder.file(name)
        assert found is None or found.is_relative_to(tmp_path)
        assert found is None or found.name == "photo_1.png"
    except LeadsOutError:
        # With a backslash the name may have been looked up before that was taken for a slash.
        assert not asked or "\\" in name
    finally:
        folder.close()
    assert all(path.startswith("/bucket/photos/") or path == "/bucket/photos/." for path in asked)
    assert not any(".." in path.split("/") for path in asked)


@pytest.mark.parametrize(
    ("change", "kind", "word"),
    [
        ({"results": "memory://bucket/none.json"}, JobError, "does not exist"),
        ({"results": "memory://bucket/photos"}, JobError, "is a folder"),
        ({"images": "memory://bucket/nowhere"}, JobError, "--images"),
        ({"images": "ftp://bucket/photos"}, OptionError, "memory://"),
        ({"images": "simplecache::memory://bucket/photos"}, OptionError, "memory://"),
        ({"images": "memory://"}, OptionError, "names no file"),
        ({"annotations": "memory://bucket/none.json"}, JobError, "--annotations"),
        ({"output": "memory://bucket/coarse.json"}, JobError, "is the input file"),
        ({"output": "memory://bucket/coarse.json/"}, JobError, "is the input file"),
        ({"output": "memory:///bucket/coarse.json"}, JobError, "is the input file"),
        ({"annotations": "memory://bucket/out.json"}, JobError, "is the --annotations file"),
        ({"images": "memory://key:word@bucket/photos"}, OptionError, "holds a password; leave it out"),
        ({"output": "memory://bucket/.."}, JobError, "without a file name"),
        ({"journal": Path("/nowhere")}, JobError, "--journal"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(
    change: dict[str, Any], kind: type[MaskmendError], word: str, memory: Any, tmp_path: Path
) -> None:
    known: dict[str, Any] = {
        "results": "memory://bucket/coarse.json",
        "images": PHOTOS,
        "output": "memory://bucket/out.json",
        "annotations": None,
        "journal": tmp_path,
    }
    with pytest.raises(kind, match=word) as told, Places(**{**known, **change}):
        pass
    assert "key:word" not in str(told.value)
    assert not memory.exists("/bucket/out.json")
    # Nor is anything left of a job that never began.
    assert not list(tmp_path.glob("maskmend-*"))


def test_an_output_that_cannot_be_put_is_not_lost(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **more: Any) -> None:
        raise PermissionError

    places = Places("memory://bucket/coarse.json", PHOTOS, "memory://bucket/out.json", None, tmp_path)
    monkeypatch.setattr(type(memory), "put_file", refused)
    with places:
        places.output.write_text("[]")
        with pytest.raises(JobError, match="does not let us in") as told:
            places.deliver()
        assert str(places.output) in str(told.value)
        # That errors of an earlier job cannot be deleted is no reason not to say it either.
        with monkeypatch.context() as patch:
            patch.setattr(type(memory), "rm_file", refused)
            with pytest.raises(JobError, match="does not let us in") as told:
                places.deliver()
        assert str(places.output) in str(told.value)
    assert places.output.read_text() == "[]"
    assert places.output.is_relative_to(tmp_path)
    monkeypatch.setattr(type(memory), "pipe_file", refused)
    with pytest.raises(JobError, match="cannot be written"):
        Places("memory://bucket/coarse.json", PHOTOS, "memory://bucket/out.json", None, tmp_path)


def test_a_file_of_the_same_name_here_is_left_alone(
    job: SmallJob, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("names.json").write_bytes(job.truth.read_bytes())
    done = refine(job.coarse, "--images", PHOTOS, "--annotations", "names.json", "-o", "memory://bucket/names.json/")
    assert done.exit_code == 0, done.output
    assert Path("names.json").read_bytes() == job.truth.read_bytes()
    assert len(json.loads(memory.cat_file("/bucket/names.json"))) == len(job.records)
    # Two URLs whose files have one name do not meet either.
    outputs = []
    for folder in ("a", "b"):
        with Places("memory://bucket/coarse.json", PHOTOS, f"memory://{folder}/out.json", None, tmp_path) as places:
            outputs.append(places.output)
    assert len(set(outputs)) == 2


@pytest.mark.parametrize("key", ["ETag", "etag", "last_modified", "updated"])
def test_every_storage_has_its_own_name_for_a_version(key: str, memory: Any, tmp_path: Path) -> None:
    stamps = []
    for version in ("1", "2", "2"):
        folder = RemoteFolder(PHOTOS, tmp_path)
        told = {"type": "file", "size": 5, key: version}
        folder._storage = type("Storage", (), {"info": staticmethod(lambda path, told=told: told)})
        stamps.append(folder.stamp("photo_1.png"))
        folder.close()
    assert stamps[0] != stamps[1] == stamps[2]


def test_names_are_not_overwritten(job: SmallJob, tmp_path: Path) -> None:
    before = job.truth.read_bytes()
    done = refine(job.coarse, "--images", job.images, "--annotations", job.truth, "-o", job.truth)
    assert isinstance(done.exception, JobError)
    assert "--output is the --annotations file" in str(done.exception)
    assert job.truth.read_bytes() == before


def test_masks_of_other_formats_are_asked_for_here(memory: Any, tmp_path: Path) -> None:
    from maskmend.clients.formats import open_masks

    (tmp_path / "masks").mkdir()
    folder = RemoteFolder(PHOTOS, tmp_path)
    with pytest.raises(OptionError, match="are for COCO files"):
        open_masks(tmp_path / "masks", folder, format="yolo")
    folder.close()


def test_ids_alone_find_a_photograph(memory: Any, tmp_path: Path) -> None:
    from maskmend.clients.coco import ImageFolder

    memory.pipe_file("/bucket/photos/000000000012.png", b"x")
    folder = RemoteFolder(PHOTOS, tmp_path)
    assert ImageFolder(folder, {}).find({"image_id": 12}).read_bytes() == b"x"
    folder.close()


def test_a_local_url_is_a_path(tmp_path: Path) -> None:
    with Places(f"file://{tmp_path}/a%20b.json", f"file://{tmp_path}", "out.json", None, tmp_path) as places:
        assert (places.results, places.images) == (tmp_path / "a b.json", tmp_path)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(storage.MODULES, "memory", "no_such_package")
    with pytest.raises(OptionError, match="pip install fsspec no_such_package"):
        storage.open_storage("memory://x", "images")


def test_tries_end(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def ask() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise TimeoutError
        return 5

    assert storage.asked(ask, "memory://x") == 5
    with pytest.raises(StorageError, match="did not answer"):
        storage.asked(lambda: 1 // 0, "memory://x")
