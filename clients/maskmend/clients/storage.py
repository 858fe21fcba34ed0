"""Files at URLs (s3://, gs://, memory:// ...) by fsspec: fetched before they are used, delivered when they are done."""

from __future__ import annotations

import posixpath
import shutil
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from maskmend.patcher.errors import JobError, MaskmendError, OptionError

Result = TypeVar("Result")
MODULES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "memory": "fsspec",
}
"""What is installed for each scheme, besides fsspec itself."""
_TRIES = 3


class StorageError(MaskmendError):
    """The storage did not answer, or does not let us in: the next file would meet the same."""

    code = "storage_unavailable"


def is_url(text: str) -> bool:
    """Whether this is a URL and not a path."""
    return "://" in text


def open_storage(url: str, field: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it without a slash at its end.

    Raises:
        OptionError: a scheme that is not known here, a URL made of several, one with a password in it, or a package that
            is missing.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in MODULES or "::" in url or "\0" in url:
        raise OptionError(
            f"--{field} is a URL of a kind that is not read here; use a path, or {', '.join(f'{s}://' for s in MODULES)}",
            field=field,
        )
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if at and ":" in user:
        # Never shown: messages end up in logs, and the URL in the journal.
        raise OptionError(
            f"--{field} {scheme}:// holds a password; leave it out, and set credentials in the environment", field=field
        )
    if not rest.strip("/"):
        raise OptionError(f"--{field} {scheme}:// names no file or folder; put one behind it", field=field)
    try:
        filesystem = import_module("fsspec").filesystem(scheme)
        import_module(MODULES[scheme])
    except ImportError:
        needed = sorted({"fsspec", MODULES[scheme]})
        raise OptionError(
            f"--{field} {scheme}:// needs {' and '.join(needed)}: pip install {' '.join(needed)}", field=field
        ) from None
    return filesystem, str(filesystem._strip_protocol(url)).rstrip("/")


def fetch(url: str, folder: Path, field: str) -> Path:
    """Copy a file into a folder, under its own name.

    Raises:
        OptionError: see `open_storage`.
        JobError: there is no such file, it does not fit the disk, or the storage cannot be read.
    """
    storage, path = open_storage(url, field)
    try:
        info = asked(lambda: storage.info(path), url)
        if info.get("type") == "directory":
            raise JobError(f"--{field} {url} is a folder; at a URL only single files can be refined", field=field)
        size, free = int(info.get("size") or 0), shutil.disk_usage(folder).free
        if size > free:
            raise JobError(f"--{field} {url} has {size} bytes, {folder} room for {free}; make room", field=field)
        target = folder / posixpath.basename(path)
        asked(lambda: storage.get_file(path, str(target)), url)
    except FileNotFoundError:
        raise JobError(f"--{field} {url} does not exist", field=field) from None
    except StorageError as error:
        raise JobError(str(error), field=field) from error
    return target


def check_writable(url: str, field: str) -> None:
    """See that a file can be written at a URL, by writing an empty one beside it: before the work, not after it.

    Raises:
        OptionError: see `open_storage`.
        JobError: it cannot.
    """
    storage, path = open_storage(url, field)
    try:
        asked(lambda: storage.pipe_file(path + ".writable", b""), url)
        asked(lambda: storage.rm_file(path + ".writable"), url)
    except (StorageError, FileNotFoundError) as error:
        raise JobError(f"--{field} {url} cannot be written: {error}", field=field) from error


def deliver(path: Path, url: str) -> None:
    """Copy a finished file to a URL. Object stores show it whole or not at all.

    Raises:
        JobError: it cannot be written; says where the file is.
    """
    storage, remote = open_storage(url, "output")
    try:
        asked(lambda: storage.put_file(str(path), remote), url)
    except (StorageError, FileNotFoundError) as error:
        raise JobError(f"{error}; what was to be there is at {path}", field="output") from error


def discard(url: str, path: Path) -> None:
    """Delete a file at a URL, if it is there.

    Raises:
        JobError: it cannot be deleted; says that what goes with its absence is at `path`.
    """
    storage, remote = open_storage(url, "output")
    try:
        asked(lambda: storage.rm_file(remote), url)
    except FileNotFoundError:
        pass
    except StorageError as error:
        raise JobError(f"{error}; the refined masks are at {path}", field="output") from error


def asked(ask: Callable[[], Result], url: str) -> Result:
    """The answer of a storage, which may take some tries.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: no answer, or no entrance.
    """
    last: Exception | None = None
    for number in range(_TRIES):
        if number:
            time.sleep(0.2 * 5**number)
        try:
            return ask()
        except (FileNotFoundError, NotADirectoryError):
            raise
        except PermissionError as error:
            raise StorageError(
                f"{url} does not let us in; check the credentials, and that they allow listing: without that a file which "
                "is missing looks like one that is forbidden"
            ) from error
        except Exception as error:  # Each storage has errors of its own, of no common class.
            last = error
    raise StorageError(f"{url} did not answer {_TRIES} times ({type(last).__name__}); check network and credentials")
