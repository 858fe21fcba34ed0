"""Files of one Label Studio host, fetched with its token: from nowhere else, and no other paths than those of data."""

from __future__ import annotations

import http.client
import json
import time
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from maskmend.patcher.errors import OptionError
from maskmend.service.errors import ForbiddenError, InvalidRequestError, TooLargeError
from maskmend.service.fetch import connect

DATA_PATHS: Final = ("/data/", "/storage-data/")
"""Where Label Studio has uploads, local files and files of storages."""
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 3
_CHUNK = 65_536
_REFRESH = "/api/token/refresh"
_MOST_ANSWER = 65_536


class HostFiles:
    """Fetches images from Label Studio.

    The host may well stand in a private network: it is named by whoever runs the backend, never by a request. Redirects
    to other hosts are refused, so that the token goes nowhere else.

    Args:
        url: of Label Studio, such as `http://label-studio:8080`.
        token: access token of a user, or a personal access token; None where none is needed.
        most: bytes of a file.
        seconds: for a file, redirects and headers counted.

    Raises:
        OptionError: the URL is no plain http or https URL.
    """

    def __init__(self, url: str, token: str | None = None, *, most: int = 64_000_000, seconds: float = 30.0) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.query:
            raise OptionError(
                "the URL of Label Studio must be a plain http or https URL, such as http://127.0.0.1:8080",
                field="label_studio_url",
            )
        self._scheme, self._host = parts.scheme, parts.hostname
        self._port = port or (443 if parts.scheme == "https" else 80)
        self._base = parts.path.rstrip("/")
        self._token, self._most, self._seconds = token, most, seconds
        self._access = ""

    def fetch(self, reference: str) -> bytes:
        """The file at a path or URL of this host.

        Raises:
            ForbiddenError: another host, or a path that is not one of data.
            InvalidRequestError: nothing came back.
            TooLargeError: the file is too large.
        """
        until = time.monotonic() + self._seconds
        target = self._target(reference)
        for _ in range(_MOST_REDIRECTS + 1):
            status, location, data = self._ask("GET", target, until)
            if status == 401 and self._token and self._token.count(".") == 2:
                self._refresh(until)
                status, location, data = self._ask("GET", target, until)
            if status == 200:
                return data
            if status not in _REDIRECTS:
                raise InvalidRequestError(
                    f"Label Studio answers with status {status} when asked for the image; is its token right?",
                    field="data",
                )
            target = self._target(urljoin(f"{self._scheme}://{self._netloc}{target}", location))
        raise InvalidRequestError("the image is redirected too often", field="data")

    @property
    def _netloc(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        usual = self._port == (443 if self._scheme == "https" else 80)
        return host if usual else f"{host}:{self._port}"

    def _target(self, reference: str) -> str:
        """Path and query to ask for."""
        try:
            parts = urlsplit(reference)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise InvalidRequestError("the image's URL is no URL", field="data") from None
        origin = (parts.scheme, parts.hostname, port)
        if (parts.scheme or parts.netloc) and (origin != (self._scheme, self._host, self._port) or parts.username):
            raise ForbiddenError(
                "the image lies on another host than Label Studio; give a folder that has it with --images",
                field="data",
            )
        path = parts.path
        if self._base and path.startswith(DATA_PATHS):
            path = self._base + path
        steps = unquote(path).replace("\\", "/").split("/")
        allowed = tuple(self._base + start for start in DATA_PATHS)
        if not path.startswith(allowed) or ".." in steps or "." in steps:
            raise ForbiddenError(f"the image's path is not below {' or '.join(DATA_PATHS)}", field="data")
        target = path + (f"?{parts.query}" if parts.query else "")
        if not target.isascii() or any(ord(c) <= 32 or ord(c) == 127 for c in target):
            raise InvalidRequestError("the image's URL is not percent-encoded", field="data")
        return target

    def _refresh(self, until: float) -> None:
        """Personal access tokens are not shown themselves, but exchanged for one that holds for minutes."""
        body = json.dumps({"refresh": self._token}).encode()
        status, _, data = self._ask("POST", self._base + _REFRESH, until, body)
        try:
            access = json.loads(data)["access"] if status == 200 else None
        except (ValueError, KeyError, TypeError):
            access = None
        if not isinstance(access, str) or not access.isascii():
            raise InvalidRequestError("Label Studio does not take this personal access token", field="data")
        self._access = access

    def _ask(self, method: str, target: str, until: float, body: bytes | None = None) -> tuple[int, str, bytes]:
        headers = {"Host": self._netloc, "User-Agent": "maskmend", "Accept": "*/*"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        elif self._access:
            headers["Authorization"] = f"Bearer {self._access}"
        elif self._token and self._token.count(".") != 2:
            headers["Authorization"] = f"Token {self._token}"
        try:
            with connect(self._scheme, self._host, self._host, self._port, until) as connection:
                connection.request(method, target, body, headers)
                answer = connection.getresponse()
                # Pages about errors may be long, and nobody reads them.
                most = 0 if answer.status != 200 else self._most if body is None else _MOST_ANSWER
                data = self._read(answer, most) if most else b""
                # Cut off by then, headers end as if they were whole.
                if time.monotonic() >= until:
                    raise InvalidRequestError("Label Studio takes too long to send the image", field="data")
                if most and answer.length:
                    raise InvalidRequestError("the image breaks off before its end", field="data")
                if most and not data:
                    raise InvalidRequestError("Label Studio sends an empty image", field="data")
                return answer.status, answer.getheader("location") or "", data
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= until:
                raise InvalidRequestError("Label Studio takes too long to send the image", field="data") from error
            raise InvalidRequestError(
                f"the image cannot be fetched from Label Studio ({type(error).__name__})", field="data"
            ) from error

    def _read(self, answer: http.client.HTTPResponse, most: int) -> bytes:
        data = bytearray()
        while chunk := answer.read1(_CHUNK):
            data += chunk
            if len(data) > most:
                raise TooLargeError(f"the image is larger than {most} bytes", field="data")
        return bytes(data)
