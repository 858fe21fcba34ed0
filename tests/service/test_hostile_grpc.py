"""Everything that a stranger may send over gRPC."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from running import Running, png, scene

from maskmend.service.proto import maskmend_pb2 as pb
from maskmend.service.proto import maskmend_pb2_grpc as pb_grpc

IMAGE, MASKS = scene()
RLES = [mask.to_coco() for mask in MASKS]


def valid(**changes: object) -> pb.RefineRequest:
    masks = [pb.Mask(rle=pb.Rle(size=rle["size"], counts=rle["counts"].encode())) for rle in RLES]
    values: dict[str, object] = {"image": png(IMAGE), "masks": masks, **changes}
    return pb.RefineRequest(**{key: value for key, value in values.items() if value is not None})


def tensor(array: np.ndarray, **changes: object) -> pb.Tensor:
    return pb.Tensor(**{"shape": array.shape, "dtype": str(array.dtype), "data": array.tobytes(), **changes})


@pytest.fixture(scope="module")
def channel(server: Running) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options) as found:
        yield found


@pytest.fixture
def stub(channel: grpc.Channel, server: Running) -> Iterator[pb_grpc.RefineServiceStub]:
    found = pb_grpc.RefineServiceStub(channel)
    yield found
    assert server.process.poll() is None
    assert len(found.Refine(valid(), timeout=60).instances) == 2


def refused(stub: pb_grpc.RefineServiceStub, request: pb.RefineRequest, code: str, word: str = "") -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Refine(request, timeout=60)
    assert caught.value.code().name == code, caught.value
    assert word in caught.value.details()
    assert len(caught.value.details()) < 4096


def test_24_a_message_over_the_limit_names_it(stub: pb_grpc.RefineServiceStub) -> None:
    refused(stub, valid(image=b"\0" * 9_000_000), "RESOURCE_EXHAUSTED", "8000000")


def test_25_bytes_that_do_not_match_the_shape(stub: pb_grpc.RefineServiceStub) -> None:
    refused(stub, valid(image=None, image_tensor=tensor(IMAGE, data=b"123")), "INVALID_ARGUMENT", "image_tensor.data")


@pytest.mark.parametrize("shape", [(-1, 5, 3), (2**62, 2**62, 3), (2**31, 2**31, 2**31, 2**31), (0, 1, 3), ()])
def test_26_shapes_that_are_none(stub: pb_grpc.RefineServiceStub, shape: tuple[int, ...]) -> None:
    refused(stub, valid(image=None, image_tensor=tensor(IMAGE, shape=shape)), "INVALID_ARGUMENT", "image_tensor")


def test_27_a_tensor_with_nan(stub: pb_grpc.RefineServiceStub) -> None:
    values = np.stack([mask.to_dense() for mask in MASKS]).astype(np.float32)
    values[0, 0, 0] = np.nan
    refused(stub, valid(masks=[], mask_tensor=tensor(values)), "INVALID_ARGUMENT", "NaN")


def test_28_an_unknown_model(stub: pb_grpc.RefineServiceStub) -> None:
    refused(stub, valid(options=pb.RefineOptions(weights="other")), "NOT_FOUND")
    refused(stub, valid(options=pb.RefineOptions(weights="../x")), "INVALID_ARGUMENT")


def patches_so_far(server: Running) -> float:
    import httpx

    text = httpx.get(f"{server.url}/metrics").text
    return float(next(line for line in text.splitlines() if line.startswith("maskmend_batch_patches_sum")).split()[1])


def test_29_an_expired_deadline_costs_no_work(stub: pb_grpc.RefineServiceStub, server: Running) -> None:
    stub.Refine(valid(), timeout=60)
    before = patches_so_far(server)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Refine(valid(options=pb.RefineOptions(timeout_s=1e-6)), timeout=60)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(grpc.RpcError) as caught:
        stub.Refine(valid(), timeout=1e-6)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert patches_so_far(server) == before


def test_30_too_many_instances(stub: pb_grpc.RefineServiceStub) -> None:
    mask = pb.Mask(rle=pb.Rle(size=[1, 1], counts=b"0"))
    refused(stub, valid(masks=[mask] * 100_000), "INVALID_ARGUMENT", "100000")


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (pb.RefineRequest(), "image"),
        (valid(image=b""), "image"),
        (valid(masks=[]), "masks"),
        (valid(masks=[pb.Mask()]), "masks[0]"),
        (valid(index_mask=b"abc"), "masks"),
        (valid(masks=[pb.Mask(rle=pb.Rle(size=[160, 200], counts=b"\0\xff"))]), "masks[0]"),
        (valid(masks=[pb.Mask(png=b"nothing")]), "masks[0]"),
        (
            valid(masks=[pb.Mask(polygons=pb.Polygons(polygons=[pb.Polygon(coordinates=[0, 0, 1e18, 0, 5, 5])]))]),
            "masks[0]",
        ),
        (valid(masks=[], mask_tensor=tensor(np.zeros((2, 5, 5), np.uint8))), "masks[0]"),
        (valid(masks=[], mask_tensor=tensor(np.zeros((2, 5), np.uint8))), "mask_tensor"),
        (valid(masks=[], mask_tensor=tensor(np.zeros((2, 5, 5), np.int64))), "dtype"),
        (valid(image=None, image_tensor=tensor(np.zeros((5, 5), np.uint8))), "image_tensor"),
        (valid(options=pb.RefineOptions(nms=float("nan"))), "nms"),
        (valid(options=pb.RefineOptions(passes=99)), "passes"),
        (valid(options=pb.RefineOptions(encoding="gif")), "encoding"),
    ],
)
def test_requests_that_do_not_say_what_they_must(
    stub: pb_grpc.RefineServiceStub, request_: pb.RefineRequest, word: str
) -> None:
    refused(stub, request_, "INVALID_ARGUMENT", word)


def test_a_mask_of_another_size_is_an_invalid_mask(stub: pb_grpc.RefineServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Refine(valid(masks=[], mask_tensor=tensor(np.zeros((2, 5, 5), np.uint8))), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    trailing = dict(caught.value.trailing_metadata())
    assert (trailing["maskmend-code"], trailing["maskmend-field"]) == ("invalid_mask", "masks[0]")


def test_a_failed_image_does_not_end_a_stream(stub: pb_grpc.RefineServiceStub) -> None:
    requests = [valid(request_id="a"), valid(request_id="b", image=b"<svg/>"), valid(request_id="c")]
    events: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    for event in stub.RefineStream(iter(requests), timeout=60):
        events[event.request_id].append(event.WhichOneof("event"))
    assert events == {"a": ["instance", "instance", "done"], "b": ["error"], "c": ["instance", "instance", "done"]}


def test_bytes_that_are_no_message(channel: grpc.Channel, stub: pb_grpc.RefineServiceStub) -> None:
    call = channel.unary_unary("/maskmend.v1.RefineService/Refine")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff\xff\xff", timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_call_without_its_message(channel: grpc.Channel, stub: pb_grpc.RefineServiceStub) -> None:
    call = channel.stream_unary("/maskmend.v1.RefineService/Refine")
    with pytest.raises(grpc.RpcError) as caught:
        call(iter(()), timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        call(never(), timeout=60)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 30


def never() -> Iterator[bytes]:
    """Messages that do not come."""
    threading.Event().wait(40)
    yield b""


def test_calls_that_only_wait_leave_room_for_those_that_work(server: Running, stub: pb_grpc.RefineServiceStub) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as other:
        watch = health_pb2_grpc.HealthStub(other).Watch
        waiting = [watch(health_pb2.HealthCheckRequest(service=""), timeout=60) for _ in range(200)]
        codes = []
        for call in waiting:
            try:
                next(iter(call))
                codes.append("SERVING")
            except grpc.RpcError as error:
                codes.append(error.code().name)
        # More than a connection may have open at all are turned away by the transport, until the client knows how many.
        assert {"SERVING", "RESOURCE_EXHAUSTED"} <= set(codes) <= {"SERVING", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
        assert codes.count("SERVING") < 66
        # While they are all open:
        assert len(stub.Refine(valid(), timeout=60).instances) == 2
        for call in waiting:
            call.cancel()


def test_health_and_reflection_answer(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", "maskmend.v1.RefineService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    listing = reflection_pb2.ServerReflectionRequest(list_services="")
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    (answer,) = reflection.ServerReflectionInfo(iter([listing]), timeout=20)
    names = {service.name for service in answer.list_services_response.service}
    assert {"maskmend.v1.RefineService", "grpc.health.v1.Health"} <= names
