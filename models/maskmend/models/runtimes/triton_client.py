"""One connection to one Triton, by gRPC or HTTP, through NVIDIA's tritonclient. For one thread."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

from maskmend.models.runtimes.pool import Batch
from maskmend.models.runtimes.triton_fleet import TritonFailure
from maskmend.models.runtimes.triton_model import INPUT, OUTPUT
from maskmend.models.runtimes.triton_url import TritonServer, TritonTarget

_CHANNEL = [
    # Without these a channel that was refused once stays away for longer and longer, whatever asks it to try.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # And one that is opened anew would share the sulking one's connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


class TritonConnection:
    """A connection, and with shared memory a region for the patches and the logits of one request.

    After a failure it is of no use any more: close it and make another.

    Args:
        server: to ask.
        target: what holds for all servers.
        model: name of the model there.
        most: patches of a request.
        size: side of a patch, S.
        side: of its logits, P.
    """

    def __init__(
        self, server: TritonServer, target: TritonTarget, model: str, *, most: int, size: int, side: int
    ) -> None:
        self._server, self._model, self._side = server, model, side
        self._most_in, self._most_out = 4 * most * 4 * size**2, 4 * most * side**2
        self._region: _Region | None = None
        # HTTP was told when it was opened.
        self._in_time: dict[str, Any] = {"client_timeout": target.timeout_s} if server.is_grpc else {}
        with _failures():
            self._library, self._client = _client(server, target, self._most_out + 1_000_000)
        self._wants_region = target.shared_memory

    def describe(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Metadata of the server and of the model, and the model's configuration.

        Raises:
            TritonFailure: it does not answer, or the model is not ready.
        """
        more = {**self._in_time, "as_json": True} if self._server.is_grpc else {}
        with _failures():
            server = self._client.get_server_metadata(**more)
            metadata = self._client.get_model_metadata(self._model, **more)
            config = self._client.get_model_config(self._model, **more)
            # gRPC wraps what HTTP gives bare.
            return server, metadata, config.get("config", config)

    def infer(self, part: Batch) -> Batch:
        """Logits float32 [B, P, P] of patches float32 [B, 4, S, S].

        Raises:
            TritonFailure: it does not answer, or what it answers is not that.
        """
        library = self._library
        with _failures():
            if self._wants_region and self._region is None:
                self._region = _Region(self._client, self._most_in, self._most_out, self._in_time)
            given = library.InferInput(INPUT, list(part.shape), "FP32")
            wanted = library.InferRequestedOutput(OUTPUT)
            if self._region is None:
                given.set_data_from_numpy(part)
            else:
                self._region.put(part, given, wanted, len(part) * self._side**2)
            result = self._client.infer(self._model, [given], outputs=[wanted], **self._in_time)
            return self._checked(result, (len(part), self._side, self._side))

    def close(self) -> None:
        """Let go of the connection and of the region. May be called again."""
        client, self._client = self._client, None
        region, self._region = self._region, None
        if client is None:
            return
        if region is not None:
            region.close(client)
        with contextlib.suppress(Exception):
            client.close()

    def __del__(self) -> None:
        if getattr(self, "_client", None) is not None:
            self.close()

    def _checked(self, result: Any, wanted: tuple[int, int, int]) -> Batch:
        """What came back, if its name, type, shape and length in bytes are right."""
        output = result.get_output(OUTPUT)
        if output is None:
            raise TritonFailure(f"its answer has no {OUTPUT}", passing=False)
        # A dict by HTTP, a message by gRPC.
        read: Any = output.get if isinstance(output, dict) else partial(getattr, output)
        datatype, shape = read("datatype"), tuple(int(n) for n in read("shape"))
        if datatype != "FP32" or shape != wanted:
            raise TritonFailure(f"it answers {str(datatype)[:20]} {shape[:6]}, not FP32 {wanted}", passing=False)
        if self._region is not None:
            return self._region.take(wanted)
        if isinstance(output, dict):
            length = int((output.get("parameters") or {}).get("binary_data_size", -1))
        else:
            raw = result.get_response().raw_output_contents
            length = len(raw[0]) if len(raw) == 1 else -1
        expected = 4 * math.prod(wanted)
        if length != expected:
            raise TritonFailure(_short(max(0, length), expected), passing=False)
        found = result.as_numpy(OUTPUT)
        if found.nbytes != expected:
            raise TritonFailure(_short(found.nbytes, expected), passing=False)
        return np.asarray(found, np.float32)


class _Region:
    """System shared memory: patches first, logits behind them.

    Its name is taken back as soon as the server has opened it, so that a process that is killed leaves nothing behind.
    """

    def __init__(self, client: Any, size_in: int, size_out: int, in_time: dict[str, Any]) -> None:
        # The server keeps a name when its owner is killed, and in containers every owner may have the same process id.
        self.name = f"maskmend-{os.getpid()}-{secrets.token_hex(8)}"
        self._size_in = size_in
        # One that hangs was waited for long enough.
        self._soon = {key: min(1.0, seconds) for key, seconds in in_time.items()}
        self._memory = SharedMemory(create=True, size=size_in + size_out)
        try:
            key = "/" + self._memory.name.lstrip("/")
            client.register_system_shared_memory(self.name, key, size_in + size_out, **in_time)
        except InferenceServerException as error:
            self._memory.close()
            raise TritonFailure(
                f"it cannot open shared memory of this machine ({_text(error)}); run it here, in a container with "
                "--ipc=host, or leave shared_memory out",
                passing=False,
            ) from error
        finally:
            self._memory.unlink()

    def put(self, part: Batch, given: Any, wanted: Any, logits: int) -> None:
        """Patches into the region; and not-a-number where the logits are to be, so that it shows when nobody writes them."""
        self._view(part.size)[:] = part.ravel()
        self._view(logits, self._size_in)[:] = np.nan
        given.set_shared_memory(self.name, part.nbytes)
        wanted.set_shared_memory(self.name, 4 * logits, self._size_in)

    def take(self, shape: tuple[int, ...]) -> Batch:
        """A copy of the logits."""
        count = math.prod(shape)
        found = self._view(count, self._size_in).reshape(shape).copy()
        missing = int(np.isnan(found).sum())
        if missing:
            raise TritonFailure(_short(4 * (count - missing), 4 * count), passing=False)
        return found

    def _view(self, count: int, offset: int = 0) -> Batch:
        memory = self._memory.buf
        assert memory is not None
        return np.frombuffer(memory, np.float32, count, offset)

    def close(self, client: Any) -> None:
        """Have the server let go of it too, if it still answers."""
        with contextlib.suppress(Exception):
            client.unregister_system_shared_memory(self.name, **self._soon)
        with contextlib.suppress(BufferError):
            self._memory.close()


def _client(server: TritonServer, target: TritonTarget, most: int) -> tuple[Any, Any]:
    if server.is_grpc:
        import tritonclient.grpc as grpc_library

        channel = [*_CHANNEL, ("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", most)]
        authorities = str(target.ca_file) if target.ca_file else None
        return grpc_library, grpc_library.InferenceServerClient(
            server.address, ssl=server.is_tls, root_certificates=authorities, channel_args=channel
        )
    import tritonclient.http as http_library

    return http_library, http_library.InferenceServerClient(
        server.address,
        connection_timeout=min(5.0, target.timeout_s),
        network_timeout=target.timeout_s,
        ssl=server.is_tls,
        ssl_options={"ca_certs": str(target.ca_file)} if target.ca_file else None,
    )


@contextmanager
def _failures() -> Iterator[None]:
    """Whatever the library raises becomes a `TritonFailure`: it has no list of what that may be."""
    try:
        yield
    except (TritonFailure, ImportError):
        # What is missing here is no fault of a server's.
        raise
    except InferenceServerException as error:
        raise TritonFailure(_text(error), hung="DEADLINE_EXCEEDED" in str(error.status())) from error
    except Exception as error:
        said = getattr(error, "strerror", None) or str(error) or "no reason given"
        hung = isinstance(error, TimeoutError)
        raise TritonFailure(f"{type(error).__name__}: {said[:200]}", hung=hung) from error


def _text(error: InferenceServerException) -> str:
    status = str(error.status() or "").removeprefix("StatusCode.")
    return f"{status}: {error.message() or ''}".strip(": ")[:300]


def _short(got: int, expected: int) -> str:
    return (
        f"its answer holds {got} bytes where {expected} belong; if its Python has numpy 2, install numpy<2 there and start "
        "it anew"
    )
