"""The journal of a running job: what is done is on disk, so a killed job goes on where it stopped.

The first line is a fingerprint of everything that decides the result; each further line holds the finished records of
one image. A torn last line, left by a kill, is dropped. While a job runs its journal is locked, so that no second one
writes into it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import orjson

from maskmend.patcher.errors import JobError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


class Journal:
    """Append-only file of finished images.

    Args:
        path: of the journal.
        fingerprint: must equal the one in an existing journal.
        resume: go on with an existing journal; otherwise it is started anew.

    Raises:
        JobError: the existing journal belongs to other settings or to a job that is still running, or the folder cannot be
            written.
    """

    def __init__(self, path: Path, fingerprint: dict[str, Any], *, resume: bool) -> None:
        self.path = path
        self.done: dict[int, dict[str, Any]] = {}
        try:
            self._file: IO[bytes] = self._locked()
        except OSError as error:
            raise JobError(f"{path.parent} cannot be written: {error.strerror}", field="output") from error
        try:
            kept = self._read(fingerprint) if resume else 0
            self._file.seek(kept)
            self._file.truncate()
            if not kept:
                self._append({"fingerprint": fingerprint})
        except BaseException:
            self._close()
            raise

    def _locked(self) -> IO[bytes]:
        """The file, made where there is none, and held by this job alone. What it holds stays as it is."""
        while True:
            file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
            if fcntl is None:
                return file
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise JobError(
                    f"{self.path} belongs to a job that is still running; wait for it, or choose another --output",
                    field="output",
                ) from None
            except OSError:
                # Some network file systems have no locks: there it goes on without one.
                return file
            # Another job may have ended, and deleted the file, before it was locked.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                    return file
            file.close()

    def _read(self, fingerprint: dict[str, Any]) -> int:
        """Take in the finished images; the length of the intact part in bytes."""
        length = 0
        with self.path.open("rb") as source:
            for number, line in enumerate(source):
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = orjson.loads(line)
                except orjson.JSONDecodeError:
                    break
                if number == 0:
                    if entry.get("fingerprint") != fingerprint:
                        raise JobError(
                            f"{self.path} was written with other input, weights or options; run with the same ones, or "
                            "without --resume to start anew",
                            field="resume",
                        )
                else:
                    self.done[entry["first"]] = entry
                length += len(line)
        return length

    def append(self, entry: dict[str, Any]) -> None:
        """Write one image's finished records and flush."""
        self._append(entry)

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            self._file.write(orjson.dumps(entry) + b"\n")
            self._file.flush()
        except OSError as error:
            raise JobError(
                f"{self.path} cannot be written: {error.strerror}; make room, then run again with --resume",
                field="output",
            ) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        # What was to be kept has been flushed; the rest of a line that did not fit does not fit now either.
        with suppress(OSError):
            self._file.close()

    def remove(self) -> None:
        """Delete the file: the job is complete."""
        self.path.unlink(missing_ok=True)
