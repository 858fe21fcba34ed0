"""An ONNX graph that computes in half precision, and still takes and gives float32.

Precision is written into the graph itself (what TensorRT calls strongly typed): weights and everything between are float16
or bfloat16, with one cast after `patches` and one before `logits`. Runtimes see the same float32 [N, 4, S, S] and [N, P, P].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from maskmend.patcher.errors import WeightsError

HALVES: dict[str, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
LARGEST = {"fp16": 65504.0, "bf16": 3.38e38}
BFLOAT16_OPSET = 22
"""The first in which convolution and pooling take bfloat16."""


def cast_graph(model: Any, precision: Literal["fp16", "bf16"]) -> Any:
    """A copy of a float32 graph that computes in `precision`.

    Args:
        model: `onnx.ModelProto`; its inputs and outputs are float32.
        precision: of weights and of everything between.

    Returns:
        `onnx.ModelProto`, checked; of the operator set it came in, for bf16 at least 22.

    Raises:
        WeightsError: a weight does not fit into the format, or the graph has operators that cannot be brought to 22.
    """
    half = HALVES[precision]
    out = onnx.ModelProto()
    out.CopyFrom(model)
    if precision == "bf16":
        out = _at_least(out, BFLOAT16_OPSET)
    graph = out.graph
    outer = {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    _Caster(out, precision).graph(graph)
    inside = {name: f"{name}/{precision}" for name in outer}
    _rename_reads(graph, inside)
    heads = [helper.make_node("Cast", [name], [inside[name]], name=f"cast {name}", to=half) for name in sorted(outer)]
    tails = []
    for value in graph.output:
        if value.type.tensor_type.elem_type in (TensorProto.FLOAT, half):
            narrow = f"{value.name}/{precision}"
            _rename_all(graph, {value.name: narrow})
            tails.append(
                helper.make_node("Cast", [narrow], [value.name], name=f"cast {value.name}", to=TensorProto.FLOAT)
            )
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    nodes = [*heads, *graph.node, *tails]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    _drop_unread(graph)
    onnx.checker.check_model(out, full_check=True)
    return out


def _at_least(model: Any, opset: int) -> Any:
    have = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if have >= opset:
        return model
    try:
        return onnx.version_converter.convert_version(model, opset)
    except Exception as error:  # The converter has errors of its own, of several kinds.
        raise WeightsError(
            f"the graph of operator set {have} cannot be brought to {opset}, which bf16 takes ({str(error)[:120]}); "
            "use fp16",
            field="precision",
        ) from error


class _Caster:
    """Turns what a graph holds into half precision, subgraphs included.

    Args:
        model: as it came, to learn the types of its values from.
        precision: to turn it into.
    """

    def __init__(self, model: Any, precision: str) -> None:
        self._half, self._largest, self._precision = HALVES[precision], LARGEST[precision], precision
        self._floats = set(_float_values(onnx.shape_inference.infer_shapes(model).graph))
        self._opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self._type = f"tensor({'float16' if precision == 'fp16' else 'bfloat16'})"

    def graph(self, graph: Any) -> None:
        """Initialisers, constants, casts and declared types of one graph."""
        wide = self._widened(graph)
        for tensor in graph.initializer:
            if tensor.data_type == TensorProto.FLOAT and tensor.name not in wide:
                tensor.CopyFrom(self._narrow(tensor, tensor.name))
        for node in graph.node:
            self._node(node, wide)
        for value in graph.output:
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = self._half
        del graph.value_info[:]

    def _widened(self, graph: Any) -> set[str]:
        """Casts around what an operator takes or gives in float32 only (scales of Resize; TopK knows no bfloat16).

        Returns:
            Names of the values that are float32 for it.
        """
        made: set[str] = set()
        fixed = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
        for node in graph.node:
            for attribute in node.attribute if node.op_type == "Constant" else ():
                if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
                    fixed[node.output[0]] = attribute.t
        nodes = []
        for node in graph.node:
            after = []
            inputs, outputs = self._refused(node)
            for place in inputs:
                name = node.input[place]
                wide = f"{name}/fp32"
                if wide not in made:
                    if name in fixed:
                        copied = TensorProto()
                        copied.CopyFrom(fixed[name])
                        copied.name = wide
                        graph.initializer.append(copied)
                    else:
                        nodes.append(
                            helper.make_node("Cast", [name], [wide], name=f"cast {wide}", to=TensorProto.FLOAT)
                        )
                    made.add(wide)
                node.input[place] = wide
            for place in outputs:
                name, wide = node.output[place], f"{node.output[place]}/fp32"
                after.append(helper.make_node("Cast", [wide], [name], name=f"cast {name}", to=self._half))
                made.add(wide)
                node.output[place] = wide
            nodes += [node, *after]
        kept = [_copied(node) for node in nodes]
        del graph.node[:]
        graph.node.extend(kept)
        return made

    def _refused(self, node: Any) -> tuple[list[int], list[int]]:
        """Places of the float32 inputs and outputs that this operator has in no half precision."""
        if node.domain not in ("", "ai.onnx"):
            return [], []
        schema = onnx.defs.get_schema(node.op_type, self._opset, "")

        def refused(names: Any, formals: Any) -> list[int]:
            return [
                place
                for place, name in enumerate(names)
                if name in self._floats
                and "tensor(float)" in (types := formals[min(place, len(formals) - 1)].types)
                and self._type not in types
            ]

        return refused(node.input, schema.inputs), refused(node.output, schema.outputs)

    def _node(self, node: Any, wide: set[str]) -> None:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                self.graph(attribute.g)
            for graph in attribute.graphs:
                self.graph(graph)
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(self._narrow(attribute.t, node.name or node.op_type))
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = attribute.i if node.output[0] in wide else self._half

    def _narrow(self, tensor: Any, name: str) -> Any:
        values = numpy_helper.to_array(tensor)
        largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
        if largest > self._largest:
            raise WeightsError(
                f"value {name[:64]!r} reaches {largest:.3g}, beyond what {self._precision} holds; use bf16 or fp32",
                field="precision",
            )
        dtype = helper.tensor_dtype_to_np_dtype(self._half)
        # A guard against division by zero must not become zero itself.
        least = 6e-8 if self._half == TensorProto.FLOAT16 else 0.0
        tiny = (values != 0) & (np.abs(values) < least)
        values = np.where(tiny, np.copysign(np.float32(least), values), values)
        return numpy_helper.from_array(values.astype(dtype), tensor.name)


def _float_values(graph: Any) -> Iterator[str]:
    """Names of all values of a graph and its subgraphs that are float32."""
    for value in [*graph.input, *graph.value_info, *graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            yield value.name
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            yield tensor.name
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
                yield node.output[0]
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _float_values(inner)


def _drop_unread(graph: Any) -> None:
    """Remove constants that nothing reads any more: those that only took part as a float32 copy."""
    read = set(_reads(graph)) | {value.name for value in graph.output}
    nodes = [_copied(node) for node in graph.node if node.op_type != "Constant" or node.output[0] in read]
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    kept = onnx.GraphProto(initializer=tensors, node=nodes)
    del graph.node[:]
    del graph.initializer[:]
    graph.node.extend(kept.node)
    graph.initializer.extend(kept.initializer)


def _reads(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _reads(inner)
                yield from (value.name for value in inner.output)


def _copied(node: Any) -> Any:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied


def _rename_reads(graph: Any, names: dict[str, str]) -> None:
    """Have every node read another value, in subgraphs too."""
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                _rename_reads(inner, names)


def _rename_all(graph: Any, names: dict[str, str]) -> None:
    """Rename values where they are made and where they are read."""
    _rename_reads(graph, names)
    for node in graph.node:
        for place, name in enumerate(node.output):
            node.output[place] = names.get(name, name)
