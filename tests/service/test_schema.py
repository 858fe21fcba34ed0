"""HTTP and gRPC say the same: the pydantic models are the source, the proto follows."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from google.protobuf.descriptor import FieldDescriptor as Field
from pydantic import BaseModel, FiniteFloat

from maskmend.service.proto import maskmend_pb2 as pb
from maskmend.service.schema import ErrorBody, RefineAnswer, RefinedMask, RefineOptions

KINDS = {
    str: {Field.TYPE_STRING},
    int: {Field.TYPE_INT32, Field.TYPE_INT64},
    float: {Field.TYPE_DOUBLE},
    bool: {Field.TYPE_BOOL},
}
ELSEWHERE = {
    # One mask message carries all encodings.
    "RefinedMask": {"png"},
}


def plain(annotation: Any) -> Any:
    """The type that is left without None, and of a Literal that of its values."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return plain(kinds[0]) if len(kinds) == 1 else object
    if get_origin(annotation) is Literal:
        return type(get_args(annotation)[0])
    if annotation is FiniteFloat or (get_origin(annotation) is not None and get_args(annotation)[0] is float):
        return float
    return annotation


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (RefineOptions, pb.RefineOptions),
        (RefinedMask, pb.RefinedMask),
        (RefineAnswer, pb.RefineResponse),
        (ErrorBody, pb.Error),
    ],
)
def test_proto_and_pydantic_have_the_same_fields_of_the_same_types(model: type[BaseModel], message: Any) -> None:
    fields = message.DESCRIPTOR.fields_by_name
    expected = set(model.model_fields) - ELSEWHERE.get(model.__name__, set())
    assert set(fields) == expected
    for name in expected:
        kind = plain(model.model_fields[name].annotation)
        if kind in KINDS and name != "index_png":
            assert fields[name].type in KINDS[kind], name


def test_every_option_may_be_left_out_on_both_sides() -> None:
    RefineOptions()
    for field in pb.RefineOptions.DESCRIPTOR.fields:
        assert field.has_presence, field.name


def test_the_python_code_is_that_of_the_proto(tmp_path: Any) -> None:
    tools = pytest.importorskip("grpc_tools.protoc", reason="comparing needs grpcio-tools")
    from pathlib import Path

    import maskmend.service.proto.maskmend_pb2 as made

    folder = Path(made.__file__).parent
    root = folder.parents[2]
    code = tools.main(["", f"-I{root}", f"--python_out={tmp_path}", "maskmend/service/proto/maskmend.proto"])
    assert code == 0
    fresh = (tmp_path / "maskmend/service/proto/maskmend_pb2.py").read_text()
    mine = (folder / "maskmend_pb2.py").read_text()
    pick = [line for line in fresh.splitlines() if "AddSerializedFile" in line]
    assert pick == [line for line in mine.splitlines() if "AddSerializedFile" in line]
