"""Reads a MediaPipe face network (`.tflite`, a FlatBuffer) into an ONNX-style `Graph`. `face_networks` uses it.

The numbers of the fields are those of TensorFlow Lite's schema.fbs. Tensors in the file are NHWC; the graph is NCHW.
TensorFlow's "SAME" padding depends on the input's size, which is fixed here, so it becomes explicit padding.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.graph.interpreter import Graph, Node
from fitdiff_core.metadata import DAMAGE

TYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64}
ADD, CONCAT, CONV, DEPTHWISE, DEQUANTIZE, MAX_POOL = 0, 2, 3, 4, 6, 17
RELU, RESHAPE, RESIZE_BILINEAR, PAD, PRELU = 19, 22, 23, 34, 54


@dataclass(frozen=True)
class Table:
    """One FlatBuffer table at byte `at` of the file. Its vtable says where each numbered field lies."""

    data: bytes
    at: int

    def _field(self, i: int) -> int | None:
        vtable = self.at - struct.unpack_from("<i", self.data, self.at)[0]
        if 4 + 2 * i >= struct.unpack_from("<H", self.data, vtable)[0]:
            return None
        offset = struct.unpack_from("<H", self.data, vtable + 4 + 2 * i)[0]
        return self.at + offset if offset else None

    def scalar(self, i: int, kind: str = "i", default: int = 0) -> int:
        p = self._field(i)
        return default if p is None else struct.unpack_from("<" + kind, self.data, p)[0]

    def _follow(self, i: int) -> int | None:
        p = self._field(i)
        return None if p is None else p + struct.unpack_from("<I", self.data, p)[0]

    def table(self, i: int) -> Table | None:
        p = self._follow(i)
        return None if p is None else Table(self.data, p)

    def vector(self, i: int, dtype: type = np.int32) -> np.ndarray | None:
        p = self._follow(i)
        if p is None:
            return None
        return np.frombuffer(self.data, dtype, struct.unpack_from("<I", self.data, p)[0], p + 4)

    def tables(self, i: int) -> list[Table]:
        p = self._follow(i)
        if p is None:
            return []
        count = struct.unpack_from("<I", self.data, p)[0]
        if 4 * count > len(self.data):
            raise ValueError(f"a list of {count} tables")
        starts = [p + 4 + 4 * k for k in range(count)]
        return [Table(self.data, s + struct.unpack_from("<I", self.data, s)[0]) for s in starts]


def same_pads(size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]) -> list[int]:
    """TensorFlow's SAME padding as ONNX pads: [top, left, bottom, right]."""
    total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
    return [total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2]


class _GraphBuilder:
    """Turns the operators of one TensorFlow Lite subgraph into nodes of an ONNX-style graph."""

    def __init__(self, subgraph: Table, buffers: list[Table]):
        tensors = subgraph.tables(0)
        self.shapes = [tuple(int(v) for v in (t.vector(0) if t.vector(0) is not None else ())) for t in tensors]
        self.arrays: dict[int, np.ndarray] = {}
        for i, t in enumerate(tensors):
            raw = buffers[t.scalar(2, "I")].vector(0, np.uint8)
            if raw is not None and raw.size:
                if t.table(6) is not None:
                    raise NotImplementedError("sparse tensors")
                self.arrays[i] = np.frombuffer(raw.tobytes(), TYPES[t.scalar(1, "b")]).reshape(self.shapes[i])
        self.nodes: list[Node] = []
        self.constants: dict[str, torch.Tensor] = {}

    def add(self, code: int, ins: list[int], outs: list[int], options: Table | None) -> None:
        """Add one operator. code: of the operator; ins, outs: numbers of its tensors; options: its table."""
        convert = _CONVERTERS.get(code)
        if convert is None:
            raise NotImplementedError(f"TensorFlow Lite operator {code}")
        convert(self, code, ins, outs, options)

    def _node(self, op: str, inputs: tuple[str, ...], out: str, attributes: dict | None = None) -> None:
        self.nodes.append(Node(op, inputs, (out,), attributes or {}))

    def _constant(self, i: int, value: np.ndarray) -> str:
        self.constants[f"k{i}"] = torch.from_numpy(np.array(value, np.float32, order="C"))
        return f"k{i}"

    def _activate(self, code: int, out: str) -> None:
        """Make a fused activation a node of its own. It takes the output's name from the last node."""
        if code == 0:
            return
        last = self.nodes.pop()
        self.nodes.append(Node(last.op, last.inputs, (out + "_raw",), last.attributes))
        op, attributes = {1: ("Relu", {}), 3: ("Clip", {"min": 0.0, "max": 6.0})}[code]
        self._node(op, (out + "_raw",), out, attributes)

    def _pads(self, i: int, kernel, stride: list[int], options: Table) -> list[int]:
        """Explicit padding of input tensor i."""
        return same_pads(self.shapes[i][1:3], kernel, stride) if options.scalar(0, "b") == 0 else [0] * 4

    def dequantize(self, code, ins, outs, options) -> None:
        """Half-precision weights."""
        self.arrays[outs[0]] = self.arrays[ins[0]].astype(np.float32)

    def convolution(self, code, ins, outs, options) -> None:
        w = self.arrays[ins[1]]
        if code == CONV:  # OHWI
            w, group, fused = w.transpose(0, 3, 1, 2), 1, 3
        else:  # 1HWC
            w, group, fused = w.transpose(3, 0, 1, 2), w.shape[3], 4
        stride = [options.scalar(2), options.scalar(1)]
        pads = self._pads(ins[0], w.shape[2:], stride, options)
        weights = tuple(self._constant(i, v) for i, v in zip(ins[1:], (w, self.arrays[ins[2]]), strict=True))
        attributes = {"strides": stride, "pads": pads, "group": group}
        self._node("Conv", (_name(ins[0]), *weights), _name(outs[0]), attributes)
        self._activate(options.scalar(fused, "b"), _name(outs[0]))

    def prelu(self, code, ins, outs, options) -> None:
        slope = self.arrays[ins[1]].reshape(-1, 1, 1)
        self._node("PRelu", (_name(ins[0]), self._constant(ins[1], slope)), _name(outs[0]))

    def add_tensors(self, code, ins, outs, options) -> None:
        self._node("Add", tuple(map(_name, ins)), _name(outs[0]))
        self._activate(options.scalar(0, "b"), _name(outs[0]))

    def relu(self, code, ins, outs, options) -> None:
        self._node("Relu", (_name(ins[0]),), _name(outs[0]))

    def max_pool(self, code, ins, outs, options) -> None:
        stride, kernel = [options.scalar(2), options.scalar(1)], [options.scalar(4), options.scalar(3)]
        pads = self._pads(ins[0], kernel, stride, options)
        attributes = {"kernel_shape": kernel, "strides": stride, "pads": pads}
        self._node("MaxPool", (_name(ins[0]),), _name(outs[0]), attributes)

    def pad(self, code, ins, outs, options) -> None:
        before, after = self.arrays[ins[1]][[0, 3, 1, 2]].T.tolist()  # NHWC -> NCHW
        self._node("Pad", (_name(ins[0]),), _name(outs[0]), {"pads": before + after})

    def resize(self, code, ins, outs, options) -> None:
        self.constants[f"k{ins[1]}"] = torch.tensor([0, 0, *self.arrays[ins[1]].tolist()])
        if options.scalar(3, "b"):
            where = "half_pixel"
        else:
            where = "align_corners" if options.scalar(2, "b") else "asymmetric"
        attributes = {"mode": "linear", "coordinate_transformation_mode": where}
        self._node("Resize", (_name(ins[0]), "", "", f"k{ins[1]}"), _name(outs[0]), attributes)

    def reshape(self, code, ins, outs, options) -> None:
        source, out = _name(ins[0]), _name(outs[0])
        if len(self.shapes[ins[0]]) == 4:  # a flattened map has the order of NHWC
            self._node("Transpose", (source,), out + "_nhwc", {"perm": [0, 2, 3, 1]})
            source = out + "_nhwc"
        self._node("Reshape", (source,), out, {"shape": [0, *self.shapes[outs[0]][1:]]})

    def concat(self, code, ins, outs, options) -> None:
        if len(self.shapes[outs[0]]) == 4:
            raise NotImplementedError("concatenation of maps")
        self._node("Concat", tuple(map(_name, ins)), _name(outs[0]), {"axis": options.scalar(0)})


_CONVERTERS: dict[int, Callable] = {
    ADD: _GraphBuilder.add_tensors,
    CONCAT: _GraphBuilder.concat,
    CONV: _GraphBuilder.convolution,
    DEPTHWISE: _GraphBuilder.convolution,
    DEQUANTIZE: _GraphBuilder.dequantize,
    MAX_POOL: _GraphBuilder.max_pool,
    RELU: _GraphBuilder.relu,
    RESHAPE: _GraphBuilder.reshape,
    RESIZE_BILINEAR: _GraphBuilder.resize,
    PAD: _GraphBuilder.pad,
    PRELU: _GraphBuilder.prelu,
}


def _name(i: int) -> str:
    return f"t{i}"


def read_tflite(data: bytes) -> tuple[Graph, int]:
    """Read a `.tflite` file.

    Returns the graph, with input `[B, 3, S, S]` and the outputs of the file, and the side S of the input in pixels.
    Raises UserError for a damaged file and for an operator that the face networks do not use.
    """
    try:
        return _read(data)
    except UserError:  # a subclass of ValueError, but no damage
        raise
    except NotImplementedError as e:
        raise UserError(f"This .tflite file needs {e}, which is not supported; use one of the face networks.") from e
    except (struct.error, *DAMAGE) as e:
        raise UserError(f"This is not a whole .tflite file ({type(e).__name__}: {e}); download it again.") from e


def _read(data: bytes) -> tuple[Graph, int]:
    """`read_tflite`, with the errors that damaged data cause."""
    model = Table(data, struct.unpack_from("<I", data, 0)[0])
    subgraph = model.tables(2)[0]
    codes = [max(c.scalar(0, "b"), c.scalar(3)) for c in model.tables(1)]  # old and new field of the operator code
    builder = _GraphBuilder(subgraph, model.tables(4))
    for operator in subgraph.tables(3):
        ins, outs = [int(i) for i in operator.vector(1)], [int(i) for i in operator.vector(2)]
        builder.add(codes[operator.scalar(0, "I")], ins, outs, operator.table(4))
    source = int(subgraph.vector(1)[0])
    results = [_name(int(i)) for i in subgraph.vector(2)]
    return Graph(builder.nodes, builder.constants, _name(source), results), builder.shapes[source][1]
