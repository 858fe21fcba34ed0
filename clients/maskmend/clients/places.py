"""Where a job has its files: on this machine as they are, at URLs by way of this machine."""

from __future__ import annotations

import hashlib
import posixpath
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote

from maskmend.clients.remote_folder import RemoteFolder
from maskmend.clients.storage import MODULES, check_writable, deliver, discard, fetch, is_url, open_storage
from maskmend.patcher.errors import JobError

_ERRORS = ".errors.jsonl"


class Places:
    """The places of a job; a context, since what was fetched is deleted in the end.

    Args:
        results: path or URL of the mask file.
        images: path or URL of the folder of photographs.
        output: path or URL of the refined file. At a URL it is put when it is done; until then it, and the journal for
            `--resume`, are kept in `journal`.
        annotations: path or URL of the COCO file that names the photographs, if there is one.
        journal: folder for what is not done yet, where `output` is a URL: in it each URL has a folder of its own.

    Attributes:
        results: path of the mask file on this machine.
        images: folder of the photographs, here or far away.
        output: path to write to on this machine.
        annotations: path on this machine, or None.

    Raises:
        OptionError: a URL of a kind that is not read, or a package for it is missing.
        JobError: a file cannot be fetched, or the output not be written.
    """

    images: Path | RemoteFolder

    def __init__(self, results: str, images: str, output: str, annotations: str | None, journal: Path) -> None:
        results, images, output = _plain(results), _plain(images), _plain(output)
        annotations = None if annotations is None else _plain(annotations)
        self._url = output if is_url(output) else None
        if self._url is not None and self._url.partition("://")[2].strip("/"):
            # The errors lie beside the output, not in a folder of its name.
            self._url = self._url.rstrip("/")
        self._delivered = False
        for place, field, what in ((results, "results", "input"), (annotations, "annotations", "--annotations")):
            if self._url is not None and place is not None and is_url(place) and _same_file(self._url, place, field):
                raise JobError(f"--output is the {what} file; choose another name", field="output")
        with ExitStack() as stack:
            spool = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="maskmend-")))
            self.output = Path(output)
            if self._url is not None:
                check_writable(self._url, "output")
                self.output = _in(journal, self._url)
                stack.callback(_remove_empty, self.output.parent)
            self.results = _here(results, spool / "results", "results")
            self.annotations = None if annotations is None else _here(annotations, spool / "names", "annotations")
            self.images = Path(images)
            if is_url(images):
                (spool / "photographs").mkdir()
                self.images = RemoteFolder(images, spool / "photographs")
                stack.callback(self.images.close)
            self._stack = stack.pop_all()

    def deliver(self) -> None:
        """Put the output, and the errors if there are any, where they belong.

        Raises:
            JobError: they cannot be put there; says where they are.
        """
        if self._url is not None:
            errors = self._beside(_ERRORS)
            if errors.exists():
                deliver(errors, self._url + _ERRORS)
            else:
                discard(self._url + _ERRORS, self.output)
            deliver(self.output, self._url)
            self._delivered = True

    def _beside(self, suffix: str) -> Path:
        return self.output.with_name(self.output.name + suffix)

    def __enter__(self) -> Places:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._delivered:
            self.output.unlink(missing_ok=True)
            self._beside(_ERRORS).unlink(missing_ok=True)
        self._stack.close()


def _plain(place: str) -> str:
    """The path that a file:// URL stands for; anything else as it is."""
    return unquote(place.removeprefix("file://")) if place.startswith("file:///") else place


def _here(place: str, folder: Path, field: str) -> Path:
    if not is_url(place):
        return Path(place)
    folder.mkdir()
    return fetch(place, folder, field)


def _same_file(output: str, other: str, field: str) -> bool:
    """Whether two URLs are of one file, whichever name of a scheme each has."""
    packages = {MODULES.get(url.partition("://")[0]) for url in (output, other)}
    return len(packages) == 1 and open_storage(output, "output")[1] == open_storage(other, field)[1]


def _in(journal: Path, url: str) -> Path:
    if not journal.is_dir():
        raise JobError(f"--journal {journal} is not a folder; create it first", field="journal")
    # The name in the URL cannot lead out: it is what stands behind the last slash.
    name = posixpath.basename(url.rstrip("/"))
    if name in ("", ".", ".."):
        raise JobError("--output is a URL without a file name; put one behind its last slash", field="output")
    # A folder of its own: a file of that name beside it is somebody else's, or of a job for another URL.
    folder = journal / f"maskmend-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise JobError(f"--journal {journal} cannot be written: {error.strerror}", field="journal") from error
    return folder / name


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
