"""Images fetched by URL, from hosts on a list alone, and never from inside the network the service runs in."""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from urllib.parse import urljoin, urlsplit

from maskmend.service.errors import ForbiddenError, InvalidRequestError, TooLargeError

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_CHUNK = 65_536
AT_ONCE = 8
"""Files that are fetched at a time."""
_INSIDE = [ipaddress.ip_network(net) for net in ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "fec0::/10")]
"""Ranges that translate to IPv4, or were private once, and that the library calls global."""
Resolve = Callable[[str, int], Sequence[str]]


def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host, as the system's resolver gives them."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Fetcher:
    """Fetches files over HTTP and HTTPS.

    The name is resolved once, every address of it is checked, and the connection goes to that very address: a name that
    changes its mind in between leads nowhere else. Redirects go through all of it again.

    Args:
        hosts: names that may be asked, exactly.
        most: bytes of a file.
        seconds: for the file, and for each step on the way to it.
        resolve: from host and port to addresses.
        inside: let addresses through that are not public; for tests alone.
        ports: by scheme.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        most: int,
        seconds: float = 10.0,
        *,
        resolve: Resolve = resolve,
        inside: bool = False,
        ports: dict[str, int] | None = None,
    ) -> None:
        self._hosts = {host.lower().rstrip(".") for host in hosts}
        self._most, self._seconds, self._resolve, self._inside = most, seconds, resolve, inside
        self._ports = ports or _PORTS
        self._threads = ThreadPoolExecutor(AT_ONCE, "maskmend-fetch")

    async def fetch_aside(self, url: str) -> bytes:
        """As `fetch`, in a thread; `AT_ONCE` files at a time, the others wait."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.fetch, url)

    def fetch(self, url: str) -> bytes:
        """The file at a URL.

        Raises:
            InvalidRequestError: no http or https URL, or nothing came back.
            ForbiddenError: a host that is not on the list, a port of its own, or an address that is not public.
            TooLargeError: the file is too large.
        """
        until = time.monotonic() + self._seconds
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._ask(url, until)
            if isinstance(answer, bytes):
                return answer
            try:
                url = urljoin(url, answer.location)
            except ValueError:
                raise InvalidRequestError("image_url is redirected to what is no URL", field="image_url") from None
        raise InvalidRequestError("image_url is redirected too often", field="image_url")

    def _ask(self, url: str, until: float) -> bytes | _Redirect:
        scheme, host, target = self._parts(url)
        port = self._ports[scheme]
        address = self._address(host, port)
        try:
            with connect(scheme, host, address, port, until) as connection:
                connection.request("GET", target, headers={"Host": host, "User-Agent": "maskmend", "Accept": "image/*"})
                answer = connection.getresponse()
                if answer.status in _REDIRECTS:
                    return _Redirect(answer.getheader("location") or "")
                if answer.status != 200:
                    raise InvalidRequestError(f"image_url answers with status {answer.status}", field="image_url")
                return self._read(answer, until)
        except (OSError, http.client.HTTPException) as error:
            raise InvalidRequestError(
                f"image_url cannot be fetched ({type(error).__name__}); send the image itself", field="image_url"
            ) from error

    def _parts(self, url: str) -> tuple[str, str, str]:
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower().rstrip("."), parts.port
        except ValueError:
            raise InvalidRequestError("image_url is not a URL", field="image_url") from None
        if parts.scheme not in _PORTS or not host or parts.username is not None:
            raise InvalidRequestError("image_url must be a plain http or https URL", field="image_url")
        if host not in self._hosts or port not in (None, _PORTS[parts.scheme]):
            raise ForbiddenError("image_url names a host that this server may not ask", field="image_url")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not target.isascii() or any(ord(c) <= 32 or ord(c) == 127 for c in target):
            raise InvalidRequestError("image_url is not percent-encoded", field="image_url")
        return parts.scheme, host, target

    def _address(self, host: str, port: int) -> str:
        try:
            found = self._resolve(host, port)
        except OSError as error:
            raise InvalidRequestError("image_url names a host that is not known", field="image_url") from error
        if not found or not (self._inside or all(_is_public(address) for address in found)):
            raise ForbiddenError("image_url leads to an address that is not public", field="image_url")
        return found[0]

    def _read(self, answer: http.client.HTTPResponse, until: float) -> bytes:
        data = bytearray()
        while chunk := answer.read1(_CHUNK):
            data += chunk
            if len(data) > self._most:
                raise TooLargeError(f"the file at image_url is larger than {self._most} bytes", field="image_url")
        # At the deadline the connection is cut, which looks like the end of the file.
        if time.monotonic() >= until:
            raise InvalidRequestError("image_url takes too long to answer", field="image_url")
        if answer.length:
            raise InvalidRequestError("image_url breaks off before its end", field="image_url")
        return bytes(data)


class _Redirect:
    def __init__(self, location: str) -> None:
        self.location = location


@contextmanager
def connect(scheme: str, host: str, address: str, port: int, until: float) -> Iterator[http.client.HTTPConnection]:
    """A connection to an address, that speaks to it by its host's name, and is cut when its time is up.

    Args:
        scheme: http or https.
        host: its name; a certificate must be for it.
        address: to connect to; the host's name will do.
        port: of it.
        until: when its time is up, by `time.monotonic`. What comes then looks like the end of an answer.
    """
    left = max(0.1, until - time.monotonic())
    with socket.create_connection((address, port), timeout=left) as plain, _hung_up_at(plain, until):
        connection = http.client.HTTPConnection(host, port, timeout=left)
        connection.sock = plain
        if scheme == "https":
            connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def _hung_up_at(connection: socket.socket, until: float) -> Iterator[None]:
    """End a connection when its time is up: its own timeout begins anew with every byte that comes."""
    # TLS takes the socket over and leaves an empty one behind; a second handle on it stays good.
    handle = connection.dup()

    def hang_up() -> None:
        with suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.1, until - time.monotonic()), hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        handle.close()


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast and not any(ip in net for net in _INSIDE if net.version == ip.version)
