"""`RemoteFolder`: photographs at a URL, each found on this machine when it is asked for."""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from maskmend.clients.inside import LONGEST, LeadsOutError
from maskmend.clients.storage import StorageError, asked, open_storage
from maskmend.patcher.errors import ImageError, JobError
from maskmend.patcher.images import MAX_BYTES

_KEPT_FILES = 256
_KEPT_BYTES = 2**30
"""Photographs that stay on the disk once they are fetched: the newest, at most so many."""
_AT_A_TIME = 16
_VERSION = ("ETag", "etag", "LastModified", "last_modified", "updated", "created", "mtime")
"""What storages tell of a file that is another one for another version; each has names of its own."""


class RemoteFolder:
    """A folder of photographs at a URL. What is asked for is fetched into a folder of this machine, and found there.

    Args:
        url: of the folder.
        spool: folder for the photographs; the newest stay, 256 of them or 1 GiB.

    Raises:
        OptionError: see `open_storage`.
        JobError: the storage cannot be read, or there is no such folder.
    """

    def __init__(self, url: str, spool: Path) -> None:
        self.url, self._spool = url, spool
        self._storage, self._root = open_storage(url, "images")
        self._pool = ThreadPoolExecutor(_AT_A_TIME, "maskmend-fetch")
        self._lock = threading.Lock()
        self._found: OrderedDict[str, Future[Path | None]] = OrderedDict()
        self._looks: dict[str, Future[list[int]]] = {}
        try:
            there = asked(lambda: self._storage.isdir(self._root), url)
        except StorageError as error:
            raise JobError(str(error), field="images") from error
        if not there:
            raise JobError(f"--images {url} is not a folder, or holds nothing", field="images")

    def names(self) -> list[str]:
        """Names of the files that lie in it, those in folders below left out.

        Raises:
            StorageError: it cannot be read.
        """
        listed = asked(lambda: self._storage.ls(self._root, detail=True), self.url)
        return sorted(posixpath.basename(str(entry["name"])) for entry in listed if entry.get("type") == "file")

    def begin(self, name: str, *, whole: bool = True) -> None:
        """Fetch a photograph, or its stamp alone, in the background. Says nothing if there is none."""
        with suppress(LeadsOutError):
            inner = _inner(name)
            _ = self._fetched(inner) if whole else self._looked_at(inner)

    def stamp(self, name: str) -> list[int]:
        """Size of a photograph in bytes, and a number for its version; empty where there is none.

        Raises:
            LeadsOutError: the name leads out of the folder.
            StorageError: the storage did not answer.
        """
        inner = _inner(name)
        with self._lock:
            begun = self._found.get(inner)
        if begun is None:
            found = self._looked_at(inner).result()
            with self._lock:
                self._looks.pop(inner, None)
            return found
        path = begun.result()
        if path is None:
            return []
        known = path.stat()
        return [known.st_size, known.st_mtime_ns]

    def file(self, name: str) -> Path | None:
        """A photograph by its name relative to the folder, on this machine; None where there is none of that name.

        Its time of change there stands for the version here: another version has another one.

        Raises:
            LeadsOutError: the name leads out of the folder.
            ImageError: it has more than 512 MiB.
            StorageError: the storage did not answer.
        """
        found = self._fetched(_inner(name)).result()
        if found is None and "\\" in name:
            found = self._fetched(_inner(name.replace("\\", "/"))).result()
        return found

    def close(self) -> None:
        """End what is still being fetched."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _fetched(self, inner: str) -> Future[Path | None]:
        with self._lock:
            known = self._found.get(inner)
            if known is not None and not (known.done() and _is_gone(known)):
                self._found.move_to_end(inner)
                return known
            future = self._pool.submit(self._fetch, inner)
            self._found[inner] = future
            self._make_room()
            return future

    def _looked_at(self, inner: str) -> Future[list[int]]:
        with self._lock:
            if inner not in self._looks:
                self._looks[inner] = self._pool.submit(self._look, inner)
            return self._looks[inner]

    def _look(self, inner: str) -> list[int]:
        """Size and version; empty where there is no such file."""
        try:
            inner.encode()
            info = asked(lambda: self._storage.info(f"{self._root}/{inner}"), self.url)
        except (FileNotFoundError, NotADirectoryError, UnicodeEncodeError):
            return []
        if info.get("type") != "file":
            return []
        version = "\0".join(str(info.get(key)) for key in _VERSION)
        digest = hashlib.sha256(f"{inner}\0{version}".encode()).digest()
        return [int(info.get("size") or 0), int.from_bytes(digest[:7], "big")]

    def _fetch(self, inner: str) -> Path | None:
        found = self._look(inner)
        if not found:
            return None
        size, moment = found
        path, name = f"{self._root}/{inner}", posixpath.basename(inner)
        try:
            if size > MAX_BYTES:
                raise ImageError(f"image {name[:100]} has {size} bytes; at most {MAX_BYTES} are read", field="image")
            # The end is given, so that a file that grew meanwhile is not read beyond what was checked.
            data = asked(lambda: self._storage.cat_file(path, start=0, end=size), self.url) if size else b""
        except (FileNotFoundError, NotADirectoryError):
            return None
        target = self._spool / f"{moment:x}-{size:x}" / name
        try:
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(data)
            # A job knows a photograph that changed by its size and its time.
            os.utime(target, ns=(moment, moment))
        except OSError as error:
            raise StorageError(f"{self._spool} cannot be written: {error.strerror}; make room there") from error
        return target

    def _make_room(self) -> None:
        kept = 0
        for number, (inner, future) in enumerate(reversed(list(self._found.items()))):
            if not future.done():
                continue
            path = None if future.cancelled() or future.exception() is not None else future.result()
            kept += path.stat().st_size if path is not None and path.exists() else 0
            if number >= _KEPT_FILES or (kept > _KEPT_BYTES and number >= 2 * _AT_A_TIME):
                if path is not None:
                    shutil.rmtree(path.parent, ignore_errors=True)
                del self._found[inner]


def _is_gone(future: Future[Path | None]) -> bool:
    return future.cancelled() or isinstance(future.exception(), StorageError)


def _inner(name: str) -> str:
    """A name without dots and doubled slashes.

    Raises:
        LeadsOutError: it leads out of the folder.
    """
    inner = posixpath.normpath(name) if name else ".."
    if "\0" in name or len(name) > LONGEST or name.startswith("/") or inner == ".." or inner.startswith("../"):
        raise LeadsOutError(name[:100])
    return inner
