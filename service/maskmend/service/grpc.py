"""The gRPC face: a server of `maskmend.v1.RefineService`, health and reflection."""

from __future__ import annotations

from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from maskmend.patcher.errors import OptionError
from maskmend.service.auth import Keys, RateLimit
from maskmend.service.core import Core
from maskmend.service.grpc_calls import SERVICE, RefineServicer
from maskmend.service.held import Budget
from maskmend.service.streams import FewCalls

_AGE_MS = 1_800_000
"""When a connection takes no new calls any more; as long again later it is closed."""


class GrpcServer:
    """The server around the calls.

    Args:
        core: what does the work.
        keys: who may ask.
        rate: how often.
        budget: of memory, for messages.
        address: to listen on, `HOST:PORT`; port 0 lets the system choose.
        max_message: bytes of a message.
        max_calls: under way at a time; more are refused with RESOURCE_EXHAUSTED. Of streams and health watches a quarter
            each, so that those which only wait leave room for those that work.
        read_timeout: seconds until the message of a unary call must be there.
        tls: certificate chain and private key, PEM files; None for plain text.
        share_port: let other processes listen on the same port; without it a port that is taken is refused.

    Raises:
        OptionError: the port cannot be listened on.
    """

    def __init__(
        self,
        core: Core,
        keys: Keys,
        rate: RateLimit,
        budget: Budget,
        address: str,
        max_message: int,
        max_calls: int,
        read_timeout: float,
        tls: tuple[Path, Path] | None = None,
        *,
        share_port: bool = False,
    ) -> None:
        self._calls = FewCalls(max_calls, SERVICE)
        self._server = grpc.aio.server(
            interceptors=(self._calls,),
            # A call whose answer is not read counts here for as long as its connection lives, and nothing can end it.
            maximum_concurrent_rpcs=4 * max_calls,
            options=[
                ("grpc.max_receive_message_length", max_message),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", max_calls),
                ("grpc.max_connection_age_ms", _AGE_MS),
                ("grpc.max_connection_age_grace_ms", _AGE_MS),
                ("grpc.so_reuseport", int(share_port)),
            ],
        )
        self._servicer = RefineServicer(core, keys, rate, budget, read_timeout)
        self._server.add_generic_rpc_handlers((self._servicer.handler(),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        try:
            if tls is None:
                self.port = self._server.add_insecure_port(address)
            else:
                chain, key = (file.read_bytes() for file in tls)
                self.port = self._server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))
        except RuntimeError as error:
            raise OptionError(
                f"gRPC cannot listen on {address}; choose another --grpc-port", field="grpc_port"
            ) from error

    async def start(self) -> None:
        """Begin to listen."""
        await self._server.start()
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def say_unready(self) -> None:
        """Have health checks answer that no more requests are welcome."""
        await self._health.enter_graceful_shutdown()

    def refuse_new(self) -> None:
        """From now on answer new calls with UNAVAILABLE, and end those that only wait."""
        self._servicer.close()
        self._calls.close()

    async def stop(self, seconds: float) -> None:
        """Take nothing new; wait for calls under way, but no longer than this."""
        await self._server.stop(seconds)
