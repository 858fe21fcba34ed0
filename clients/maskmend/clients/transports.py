"""The two ways to a server that wait for it: HTTP and gRPC. One try each; whether to try again is said elsewhere."""

from __future__ import annotations

import ssl
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx

from maskmend.clients import http_wire
from maskmend.clients.calls import Call
from maskmend.clients.deadline import bound, deadline
from maskmend.clients.errors import ConnectionFailedError, UnexpectedAnswerError, broken_off, late
from maskmend.clients.results import RefinedInstance, RefineResult
from maskmend.patcher.errors import MaskmendError, OptionError

CONNECT_SECONDS = 10.0


class Transport(Protocol):
    """A way to a server."""

    def refine(self, call: Call, left: float) -> RefineResult:
        """One try. `left`: seconds for it."""

    def stream(self, call: Call, left: float) -> Generator[tuple[int, RefinedInstance], None, None]:
        """One try; index and instance as they come."""

    def close(self) -> None:
        """Close connections."""


class HttpTransport:
    """HTTP, with connections that stay open.

    Args:
        url: in front of `/v1`.
        api_key: shown to the server; None for none.
        verify: see `Remote`.
        connections: kept at a time.
    """

    def __init__(self, url: str, api_key: str | None, verify: bool | str | Path, connections: int) -> None:
        self._url = url
        self._client = bound(httpx.Client(**http_settings(api_key, verify, connections)))

    def refine(self, call: Call, left: float) -> RefineResult:
        """See `Transport`."""
        return http_wire.result(b"".join(self._chunks(http_wire.REFINE, call, left)))

    def stream(self, call: Call, left: float) -> Generator[tuple[int, RefinedInstance], None, None]:
        """See `Transport`."""
        lines = http_wire.Lines()
        with closing(self._chunks(http_wire.STREAM, call, left)) as chunks:
            for chunk in chunks:
                yield from lines.feed(chunk)
        lines.end()

    def _chunks(self, path: str, call: Call, left: float) -> Generator[bytes, None, None]:
        """The body of an answer that is 200, within the time and the size that it may take."""
        until = time.monotonic() + left
        with translated():
            request = self._client.build_request(
                "POST", self._url + path, **http_wire.form(call, left), timeout=http_timeout(left)
            )
            with deadline(until - time.monotonic()):
                answer = self._client.send(request, stream=True)
            try:
                body, chunks = http_wire.Body(answer.status_code, answer.headers), answer.iter_bytes()
                while True:
                    # Not over the whole loop: what the caller does between two chunks is its own time.
                    with deadline(until - time.monotonic()):
                        chunk = next(chunks, None)
                    if chunk is None:
                        break
                    yield body.take(chunk)
            finally:
                answer.close()
        body.end()

    def close(self) -> None:
        """See `Transport`."""
        self._client.close()


class GrpcTransport:
    """gRPC over one connection.

    Args:
        address: `host:port`.
        secure: use TLS.
        api_key: shown to the server; None for none.
        verify: see `Remote`.
    """

    def __init__(self, address: str, secure: bool, api_key: str | None, verify: bool | str | Path) -> None:
        grpc, self._wire = grpc_modules()
        self._channel = (
            grpc.secure_channel(address, grpc_credentials(verify), self._wire.CHANNEL)
            if secure
            else grpc.insecure_channel(address, self._wire.CHANNEL)
        )
        self._stub = stub(self._channel)
        self._metadata = (("x-api-key", api_key),) if api_key else ()
        self._failure: type[Exception] = grpc.RpcError

    def refine(self, call: Call, left: float) -> RefineResult:
        """See `Transport`."""
        try:
            answer = self._stub.Refine(self._wire.message(call), timeout=left, metadata=self._metadata)
        except self._failure as error:
            raise self._wire.refusal(error) from None
        result: RefineResult = self._wire.result(answer)
        return result

    def stream(self, call: Call, left: float) -> Generator[tuple[int, RefinedInstance], None, None]:
        """See `Transport`."""
        events = self._stub.RefineStream(iter([self._wire.message(call)]), timeout=left, metadata=self._metadata)
        try:
            for item in events:
                found = self._wire.event(item)
                if not isinstance(found, tuple):
                    return
                yield found
        except self._failure as error:
            raise self._wire.refusal(error) from None
        finally:
            events.cancel()
        raise broken_off()

    def close(self) -> None:
        """See `Transport`."""
        self._channel.close()


def http_settings(api_key: str | None, verify: bool | str | Path, connections: int) -> dict[str, Any]:
    """Arguments of httpx's clients.

    Raises:
        OptionError: the file of authorities cannot be read.
    """
    trust: bool | ssl.SSLContext = verify if isinstance(verify, bool) else ssl_context(Path(verify))
    return {
        "headers": {"x-api-key": api_key} if api_key else {},
        "verify": trust,
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=connections),
    }


def ssl_context(authorities: Path) -> ssl.SSLContext:
    """What checks certificates by the authorities of a PEM file.

    Raises:
        OptionError: it cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise OptionError(f"verify: {authorities} cannot be read as PEM ({error})", field="verify") from error


def http_timeout(left: float) -> httpx.Timeout:
    """For one try: no single wait takes longer than what is left."""
    return httpx.Timeout(left, connect=min(left, CONNECT_SECONDS))


@contextmanager
def translated() -> Iterator[None]:
    """Errors of httpx as ours.

    Raises:
        ConnectionFailedError: the server cannot be reached, or the connection broke.
        UnexpectedAnswerError: the request cannot be sent, or the answer is damaged.
        OptionError: the URL is none.
        MaskmendError: time is up, see `late`.
    """
    try:
        yield
    except MaskmendError:
        raise
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
        raise ConnectionFailedError(f"the server cannot be reached ({_reason(error)}); is it running?") from error
    except httpx.TimeoutException as error:
        raise late() from error
    except httpx.LocalProtocolError:
        # Its text would repeat what was to be sent, a key perhaps.
        raise UnexpectedAnswerError("the request cannot be sent as it is", passing=False) from None
    except httpx.TransportError as error:
        raise ConnectionFailedError(f"the connection to the server broke ({_reason(error)})") from error
    except (httpx.DecodingError, httpx.StreamError) as error:
        raise UnexpectedAnswerError("the server's answer is damaged") from error
    except (httpx.InvalidURL, UnicodeError):
        raise OptionError("url is not one that can be asked", field="url") from None


def _reason(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__


def grpc_modules() -> tuple[Any, Any]:
    """`grpc`, and `grpc_wire`.

    Raises:
        OptionError: gRPC is not installed.
    """
    try:
        import grpc

        from maskmend.clients import grpc_wire
    except ImportError:
        raise OptionError("grpc:// needs gRPC; pip install 'maskmend[grpc]', or use http://", field="url") from None
    return grpc, grpc_wire


def grpc_credentials(verify: bool | str | Path) -> Any:
    """What checks the certificate of a gRPC server.

    Raises:
        OptionError: it is not to be checked at all, or the file of authorities cannot be read.
    """
    import grpc

    if verify is False:
        raise OptionError("gRPC always checks certificates; give the server's as verify=FILE", field="verify")
    if verify is True:
        return grpc.ssl_channel_credentials()
    ssl_context(Path(verify))
    return grpc.ssl_channel_credentials(Path(verify).read_bytes())


def stub(channel: Any) -> Any:
    """The calls of a channel."""
    from maskmend.service.proto.maskmend_pb2_grpc import RefineServiceStub

    return RefineServiceStub(channel)  # type: ignore[no-untyped-call]
