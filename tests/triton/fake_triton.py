"""A server that speaks as Triton does over gRPC, and misbehaves in one way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from maskmend.models.runtimes.triton_model import graph_sha256
from maskmend.models.zoo import Manifest, resolve_weights


@dataclass
class Behaviour:
    """What a fake says. Changed while it runs, it counts from the next request on."""

    manifest: Manifest = field(default_factory=lambda: resolve_weights("bpr-small").manifest)
    sha: str | None = None
    precision: str = "fp32"
    max_batch: int = 8
    metadata: Callable[[service_pb2.ModelMetadataResponse], None] = lambda _: None
    answer: Callable[[service_pb2.ModelInferResponse], None] = lambda _: None
    fails: bool = False
    hangs_s: float = 0.0


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Its network says what the mask says: logits are the fourth channel."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour, self.requests, self.sizes = behaviour, 0, set[int]()
        self.busy = self.most_busy = 0
        self.regions: list[str] = []
        self._lock = threading.Lock()
        self.url = ""

    def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerMetadataResponse(name="triton", version="0.0.fake")

    def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        manifest = self.behaviour.manifest
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata
        size, side = manifest.input_size, manifest.patch
        found = service_pb2.ModelMetadataResponse(
            name=request.name,
            inputs=[tensor(name="patches", datatype="FP32", shape=[-1, 4, size, size])],
            outputs=[tensor(name="logits", datatype="FP32", shape=[-1, side, side])],
        )
        self.behaviour.metadata(found)
        return found

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        sha = graph_sha256(self.behaviour.manifest) if self.behaviour.sha is None else self.behaviour.sha
        config = model_config_pb2.ModelConfig(name=request.name, max_batch_size=self.behaviour.max_batch)
        for key, value in (("weights_sha256", sha), ("precision", self.behaviour.precision)):
            if value:
                config.parameters[key].string_value = value
        return service_pb2.ModelConfigResponse(config=config)

    def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.name in self.regions:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "the region is there already")
        self.regions.append(request.name)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._lock:
            self.requests += 1
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            self.sizes.add(int(request.inputs[0].shape[0]))
        try:
            time.sleep(self.behaviour.hangs_s)
            if self.behaviour.fails:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the fake has failed")
            patches = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape)
            side = self.behaviour.manifest.patch
            found = service_pb2.ModelInferResponse(
                model_name=request.model_name,
                model_version="1",
                outputs=[
                    service_pb2.ModelInferResponse.InferOutputTensor(
                        name="logits", datatype="FP32", shape=[len(patches), side, side]
                    )
                ],
                raw_output_contents=[np.ascontiguousarray(patches[:, 3, :side, :side]).tobytes()],
            )
            self.behaviour.answer(found)
            return found
        finally:
            with self._lock:
                self.busy -= 1


@contextmanager
def fake(
    behaviour: Behaviour | None = None, *, port: int = 0, tls: tuple[bytes, bytes] | None = None
) -> Iterator[FakeTriton]:
    """A fake that listens; with a private key and a certificate by TLS, as localhost."""
    made = FakeTriton(behaviour or Behaviour())
    server = grpc.server(
        ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    )
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(made, server)
    if tls is None:
        made.url = f"grpc://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    else:
        made.url = f"grpcs://localhost:{server.add_secure_port('127.0.0.1:0', grpc.ssl_server_credentials([tls]))}"
    server.start()
    try:
        yield made
    finally:
        server.stop(0).wait()
