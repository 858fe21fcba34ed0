"""Damaged messages to a real server over gRPC: each is answered in our words, and none harms the next.

    python tests/fuzz/grpc_calls.py --seconds 300

Messages are the seeds of seeds.py and what corpus/message.zip holds, with fields exchanged, repeated and filled with odd
values, and with bytes flipped, cut out and put in; the same ones for the same seed. Ends with 1 at the first answer that is
not in our words.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError, Message

from maskmend.service.proto import maskmend_pb2 as pb

EXPECTED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
ODD: dict[int, Sequence[Any]] = {
    1: (0.0, -1.0, 1e308, float("nan"), float("inf"), 0.5),
    2: (0.0, -1.0, 3e38, float("nan"), float("inf"), 0.5),
    3: (0, -1, 1, 2**63 - 1, -(2**63), 65_536),
    5: (0, -1, 1, 2**31 - 1, -(2**31), 65_536),
    8: (True, False),
    9: ("", "a", "../x", "bpr-small", "rle", "png", "\0", "é" * 300),
    12: (b"", b"\0", b"\xff" * 40, b"\x89PNG\r\n\x1a\n", b"0" * 500),
}
"""Values by the type of a field, as protobuf numbers types."""


def change(message: Message, rng: np.random.Generator) -> None:
    """Change one field somewhere in a message."""
    field = message.DESCRIPTOR.fields[int(rng.integers(len(message.DESCRIPTOR.fields)))]
    repeated = field.is_repeated
    if rng.random() < 0.15:
        message.ClearField(field.name)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        return
    elif field.message_type is not None:
        inner = getattr(message, field.name)
        if not repeated:
            change(inner, rng)
        elif rng.random() < 0.3 or not inner:
            inner.add()
        else:
            change(inner[int(rng.integers(len(inner)))], rng)
    elif (values := ODD.get(field.type)) is not None:
        value = values[int(rng.integers(len(values)))]
        if not repeated:
            setattr(message, field.name, value)
        else:
            getattr(message, field.name).extend([value] * int(rng.integers(1, 4)))


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A message that is nearly the one that was given."""
    if rng.random() < 0.7:
        try:
            message = pb.RefineRequest.FromString(data)
        except DecodeError:
            return data
        for _ in range(int(rng.integers(1, 4))):
            change(message, rng)
        data = message.SerializeToString()
    found = bytearray(data)
    for _ in range(int(rng.integers(0, 3))):
        at = int(rng.integers(len(found) + 1))
        kind = rng.integers(3)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del found[at : at + int(rng.integers(1, 20))]
        else:
            found[at:at] = rng.bytes(int(rng.integers(1, 9)))
    return bytes(found)


def fuzz(port: int, inputs: Sequence[bytes], going_on: Callable[[int], bool], seed: int = 0) -> Counter[str]:
    """Send damaged messages one after another as long as `going_on(how many)` says so; codes of the answers.

    Raises:
        AssertionError: an answer that is not in our words.
    """
    codes: Counter[str] = Counter()
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        # As bytes, whatever they are: a stub would not send what is no message.
        calls = [channel.unary_unary("/maskmend.v1.RefineService/Refine")]
        calls.append(lambda data, timeout: list(channel.stream_stream(STREAM)(iter([data]), timeout=timeout)))
        number = 0
        while going_on(number):
            rng = np.random.default_rng((seed, number))
            data = damaged(inputs[int(rng.integers(len(inputs)))], rng)
            number += 1
            try:
                calls[int(rng.random() < 0.3)](data, timeout=60)
                codes["OK"] += 1
            except grpc.RpcError as error:
                code, told = error.code().name, error.details()
                codes[code] += 1
                if code not in EXPECTED or not told or len(told) > 4096:
                    raise AssertionError(f"message {number - 1} of seed {seed}: {code}: {told[:200]}") from error
    return codes


STREAM = "/maskmend.v1.RefineService/RefineStream"


def main() -> None:
    here = Path(__file__).parent
    sys.path[:0] = [str(here), str(here.parent / "service")]
    from campaign import kept
    from running import running
    from seeds import seeds

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "log", "--threads", "1") as server:
        until = time.monotonic() + given.seconds
        assert server.grpc_port is not None
        inputs = [*seeds("message"), *kept("message")]
        codes = fuzz(server.grpc_port, inputs, lambda _: time.monotonic() < until, given.seed)
        print(f"{sum(codes.values())} calls: {dict(codes)}; the server lives: {server.process.poll() is None}")
        assert server.refine().status_code == 200


if __name__ == "__main__":
    main()
