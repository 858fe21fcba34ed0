from __future__ import annotations

from pathlib import Path

import pytest

from maskmend.clients.formats.folders import Photographs, files_below, inside, new_folder, read_text, write_file
from maskmend.patcher.errors import ImageError, JobError, MaskError


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_are_found_below_but_not_through_links_or_behind_dots(tmp_path: Path) -> None:
    secret = put(tmp_path / "out" / "s.png")
    root = tmp_path / "in"
    put(root / "b" / "1.PNG")
    put(root / "a.png")
    put(root / "a.txt")
    put(root / ".hidden" / "c.png")
    put(root / "._a.png")
    (root / "link.png").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    (root / "own.png").symlink_to(root / "a.png")
    assert files_below(root, ".png") == ["a.png", "b/1.PNG", "own.png"]
    with pytest.raises(JobError, match="more than 2"):
        files_below(root, ".png", most=2)


@pytest.mark.parametrize(
    "name", ["../a.png", "/etc/hostname", "a\0b", "b/../../a.png", "link.png", "", "x" * 2000, "none.png"]
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    put(tmp_path / "a.png")
    put(tmp_path / "in" / "b" / "c.png")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "a.png")
    assert inside(tmp_path / "in", "b/c.png", field="mask").is_file()
    with pytest.raises(MaskError) as caught:
        inside(tmp_path / "in", name, field="mask")
    assert caught.value.field == "mask"
    assert len(str(caught.value)) < 250


def test_a_photograph_is_looked_for_in_its_place_and_then_anywhere(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/1.png", "c/2.JPG", "3.webp"):
        put(tmp_path / name)
    photographs = Photographs(tmp_path)
    assert photographs.of("a/1").name == "1.jpg"
    assert photographs.of("b/1").name == "1.png"
    assert photographs.of("other/2") == tmp_path.resolve() / "c" / "2.JPG"
    with pytest.raises(ImageError, match="2 photographs"):
        photographs.of("1")
    for stem in ("4", "a/../../x", "\0"):
        with pytest.raises(ImageError):
            photographs.of(stem)
    with pytest.raises(ImageError, match="leads out"):
        Photographs(tmp_path / "b").of("../a/1")
    with pytest.raises(JobError, match="--images"):
        Photographs(None).of("1")


def test_a_new_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    def broken() -> None:
        with new_folder(tmp_path / "new") as folder:
            write_file(folder, "a.txt", "1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "new") as folder:
        write_file(folder, "b/a.txt", "1")
        assert not (tmp_path / "new").exists()
    put(tmp_path / "new" / "other.txt")
    with new_folder(tmp_path / "new") as folder:
        write_file(folder, "b/a.txt", "2")
    assert (tmp_path / "new" / "b" / "a.txt").read_text() == "2"
    assert (tmp_path / "new" / "other.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["new"]
    with pytest.raises(JobError, match="cannot be written"), new_folder(tmp_path / "no" / "new"):
        pass
    with pytest.raises(JobError, match="leads out"), new_folder(tmp_path / "x") as folder:
        write_file(folder, "../a.txt", "1")


def test_text_of_any_encoding_comes_back_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xe9\xff caf\xc3\xa9\r\n")
    write_file(tmp_path, "b.txt", read_text(tmp_path / "a.txt"))
    assert (tmp_path / "b.txt").read_bytes() == (tmp_path / "a.txt").read_bytes()
    with pytest.raises(JobError):
        read_text(tmp_path / "none.txt")
