"""Reads an `.onnx` file into a `Graph`, without the packages onnx and onnxruntime.

It supports what recognition networks need: one image as input, operators of `ops.OPS`, weights inside the file.
Numbers of message fields are those of onnx.proto.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .interpreter import Graph, Node
from .protobuf import DAMAGE, Message, fields, float32, floats, integers, message, text

# TensorProto.DataType -> dtype of raw_data
RAW_TYPES = {1: "<f4", 2: "u1", 3: "i1", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a graph: name -> shape, with 0 for a dimension that is not fixed."""

    inputs: dict[str, list[int]]
    outputs: dict[str, list[int]]


def _graph_message(data: memoryview) -> memoryview:
    """The GraphProto of a ModelProto. Raises ValueError if there is none."""
    for number, value in fields(data):
        if number == 7 and isinstance(value, memoryview):
            return value
    raise ValueError("it holds no graph")


def _block(value: int | memoryview) -> memoryview:
    """The value of a field that holds a message. Raises ValueError for a number."""
    if isinstance(value, int):
        raise ValueError("a number stands where a message should be")
    return value


def _value_info(data: memoryview) -> tuple[str, list[int]]:
    """ValueInfoProto -> (name, shape)."""
    info = message(data)
    shape: list[int] = []
    for kind in info[2]:
        for tensor_type in message(kind)[1]:
            for tensor_shape in message(tensor_type)[2]:
                shape = [(integers(message(d)[1]) or [0])[0] for d in message(tensor_shape)[1]]
    return text(info[1]), shape


def read_signature(path: str | os.PathLike) -> Signature:
    """Inputs (without weights) and outputs of an ONNX file. Weights are not read. Raises UserError."""
    path = Path(path)
    inputs: dict[str, list[int]] = {}
    outputs: dict[str, list[int]] = {}
    weights: set[str] = set()
    try:
        with path.open("rb") as f:  # the mapping closes itself with its last view
            data = memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))
        for number, value in fields(_graph_message(data)):
            if number in (11, 12):
                name, shape = _value_info(_block(value))
                (inputs if number == 11 else outputs)[name] = shape
            elif number == 5:
                weights.add(next((bytes(v).decode() for n, v in fields(_block(value)) if n == 8), ""))
    except DAMAGE as e:
        raise _damaged(path, e) from e
    return Signature({k: v for k, v in inputs.items() if k not in weights}, outputs)


def load_onnx(path: str | os.PathLike) -> Graph:
    """The network of an ONNX file. Raises UserError if the file is missing, damaged or uses an unsupported feature."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"No such ONNX file: {path}.")
    try:
        return parse_onnx(path.read_bytes())
    except UserError as e:  # a subclass of ValueError, but no damage
        raise UserError(f"{path.name}: {e}") from e
    except DAMAGE as e:
        raise _damaged(path, e) from e


def _damaged(path: Path, e: Exception) -> UserError:
    return UserError(f"{path} is not a whole ONNX file ({e}); download it again.")


def parse_onnx(data: bytes) -> Graph:
    """The network of an ONNX model's bytes. Raises UserError if it is not supported, ValueError if it is damaged."""
    graph = message(_graph_message(memoryview(data)))
    constants = dict(_tensor(t) for t in graph[5])
    nodes = []
    for n in graph[1]:
        node = message(n)
        kind, attributes = text(node[4]), dict(_attribute(a) for a in node[5])
        outputs = tuple(bytes(v).decode() for v in node[2])
        if text(node[7]) not in ("", "ai.onnx"):
            raise UserError(f"operator {kind} of the extension {text(node[7])} is not supported; export without it.")
        if kind == "Constant":
            constants[outputs[0]] = _constant(attributes)
        else:
            nodes.append(Node(kind, tuple(bytes(v).decode() for v in node[1]), outputs, attributes))
    inputs = [name for name, _ in map(_value_info, graph[11]) if name not in constants]
    if len(inputs) != 1:
        raise UserError(f"it takes {len(inputs)} inputs; a recognition network takes one image.")
    return Graph(nodes, constants, inputs[0], [name for name, _ in map(_value_info, graph[12])])


def _constant(attributes: dict[str, Any]) -> Tensor:
    """Value of a Constant node. Raises UserError if it has none that is supported."""
    for key in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if key in attributes:
            value = attributes[key]
            return value if isinstance(value, Tensor) else torch.tensor(value)
    raise UserError("a Constant node holds neither a number nor a tensor; export without it.")


def _tensor(data: memoryview) -> tuple[str, Tensor]:
    """TensorProto -> (name, copy of the tensor). Raises UserError for an unsupported type or external data."""
    t: Message = message(data)
    shape, kind = integers(t[1]), (t[2] or [0])[-1]
    if t[13] or (t[14] or [0])[-1] == 1:
        raise UserError("its weights lie in a second file (external data); save the model with the weights inside.")
    if kind not in RAW_TYPES:
        raise UserError(f"it holds a tensor of ONNX data type {kind}; only float and integer weights are supported.")
    if t[9]:
        values = np.frombuffer(t[9][-1], RAW_TYPES[kind])
    elif kind == 1:
        values = floats(t[4])
    elif kind == 11:
        values = floats(t[10], "<f8")
    elif kind == 7:
        values = np.array(integers(t[7]), np.int64)
    else:  # small types, and the bit patterns of float16, are kept as int32
        values = np.array(integers(t[5]))
        values = values.astype(np.uint16).view(np.float16) if kind == 10 else values.astype(RAW_TYPES[kind])
    return text(t[8]), torch.from_numpy(np.array(values).reshape(shape))


def _attribute(data: memoryview) -> tuple[str, Any]:
    """AttributeProto -> (name, value).

    Its type field says which value field holds the value. Very old files have no type; then the field that is set
    counts.
    """
    a: Message = message(data)
    present = next((n for n in (2, 3, 4, 5, 7, 8, 9) if a[n]), 0)
    kind = a[20][-1] if a[20] else {2: 1, 3: 2, 4: 3, 5: 4, 7: 6, 8: 7, 9: 8}.get(present, 0)
    value: Any
    if kind == 1:
        value = float32(a[2])
    elif kind == 2:
        value = (integers(a[3]) or [0])[-1]
    elif kind == 3:
        value = text(a[4])
    elif kind == 4:
        value = _tensor(a[5][-1])[1]
    elif kind == 6:
        value = floats(a[7]).tolist()
    elif kind == 7:
        value = integers(a[8])
    else:
        value = None  # sub-graphs, for instance; the operators that need them are not supported
    return text(a[1]), value
