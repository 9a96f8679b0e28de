"""Reads a MediaPipe face network (`.tflite`, a FlatBuffer) into an ONNX-style `Graph`. Used by `convert` only.

The field numbers are those of TensorFlow Lite's schema.fbs. Tensors there are NHWC; the graph is rewritten to NCHW, and
TensorFlow's "SAME" padding, whose amount depends on the size, becomes explicit because the input size is fixed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import torch

from fitdiff_core.graph.interpreter import Graph, Node

TYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64}
ADD, CONCAT, CONV, DEPTHWISE, DEQUANTIZE, MAX_POOL = 0, 2, 3, 4, 6, 17
RELU, RESHAPE, RESIZE_BILINEAR, PAD, PRELU = 19, 22, 23, 34, 54


@dataclass(frozen=True)
class Table:
    """One FlatBuffer table: its vtable tells where in the table each numbered field lies."""

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
        starts = [p + 4 + 4 * k for k in range(struct.unpack_from("<I", self.data, p)[0])]
        return [Table(self.data, s + struct.unpack_from("<I", self.data, s)[0]) for s in starts]


def same_pads(size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]) -> list[int]:
    """TensorFlow's SAME padding as ONNX pads: [top, left, bottom, right]."""
    total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
    return [total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2]


def read_tflite(data: bytes) -> tuple[Graph, int]:
    """The graph and the side of its square input in pixels. Input `[B, 3, S, S]`; outputs as the file has them."""
    model = Table(data, struct.unpack_from("<I", data, 0)[0])
    subgraph, buffers = model.tables(2)[0], model.tables(4)
    codes = [max(c.scalar(0, "b"), c.scalar(3)) for c in model.tables(1)]  # old and new place of the operator code
    tensors = subgraph.tables(0)
    shapes = [tuple(int(v) for v in (t.vector(0) if t.vector(0) is not None else ())) for t in tensors]

    arrays: dict[int, np.ndarray] = {}
    for i, t in enumerate(tensors):
        raw = buffers[t.scalar(2, "I")].vector(0, np.uint8)
        if raw is not None and raw.size:
            if t.table(6) is not None:
                raise NotImplementedError("sparse tensors")
            arrays[i] = np.frombuffer(raw.tobytes(), TYPES[t.scalar(1, "b")]).reshape(shapes[i])

    nodes: list[Node] = []
    constants: dict[str, torch.Tensor] = {}

    def name(i: int) -> str:
        return f"t{i}"

    def constant(i: int, value: np.ndarray) -> str:
        constants[f"k{i}"] = torch.from_numpy(np.array(value, np.float32, order="C"))
        return f"k{i}"

    def activate(code: int, out: str) -> None:
        """A fused activation becomes a node of its own, which takes over the output's name."""
        if code == 0:
            return
        last = nodes.pop()
        nodes.append(Node(last.op, last.inputs, (out + "_raw",), last.attributes))
        kind = {1: ("Relu", {}), 3: ("Clip", {"min": 0.0, "max": 6.0})}[code]
        nodes.append(Node(kind[0], (out + "_raw",), (out,), kind[1]))

    for operator in subgraph.tables(3):
        code = codes[operator.scalar(0, "I")]
        ins, outs = [int(i) for i in operator.vector(1)], [int(i) for i in operator.vector(2)]
        options, out = operator.table(4), name(outs[0])
        if code == DEQUANTIZE:  # half-precision weights
            arrays[outs[0]] = arrays[ins[0]].astype(np.float32)
        elif code in (CONV, DEPTHWISE):
            w = arrays[ins[1]]
            if code == CONV:  # OHWI
                w, group, fused = w.transpose(0, 3, 1, 2), 1, 3
            else:  # 1HWC
                w, group, fused = w.transpose(3, 0, 1, 2), w.shape[3], 4
            stride = [options.scalar(2), options.scalar(1)]
            pads = same_pads(shapes[ins[0]][1:3], w.shape[2:], stride) if options.scalar(0, "b") == 0 else [0] * 4
            weights = tuple(constant(i, v) for i, v in zip(ins[1:], (w, arrays[ins[2]]), strict=True))
            nodes.append(
                Node("Conv", (name(ins[0]), *weights), (out,), {"strides": stride, "pads": pads, "group": group})
            )
            activate(options.scalar(fused, "b"), out)
        elif code == PRELU:
            slope = arrays[ins[1]].reshape(-1, 1, 1)
            nodes.append(Node("PRelu", (name(ins[0]), constant(ins[1], slope)), (out,)))
        elif code == ADD:
            nodes.append(Node("Add", tuple(map(name, ins)), (out,)))
            activate(options.scalar(0, "b"), out)
        elif code == RELU:
            nodes.append(Node("Relu", (name(ins[0]),), (out,)))
        elif code == MAX_POOL:
            stride, kernel = [options.scalar(2), options.scalar(1)], [options.scalar(4), options.scalar(3)]
            pads = same_pads(shapes[ins[0]][1:3], kernel, stride) if options.scalar(0, "b") == 0 else [0] * 4
            attributes = {"kernel_shape": kernel, "strides": stride, "pads": pads}
            nodes.append(Node("MaxPool", (name(ins[0]),), (out,), attributes))
        elif code == PAD:
            before, after = arrays[ins[1]][[0, 3, 1, 2]].T.tolist()  # NHWC -> NCHW
            nodes.append(Node("Pad", (name(ins[0]),), (out,), {"pads": before + after}))
        elif code == RESIZE_BILINEAR:
            sizes = torch.tensor([0, 0, *arrays[ins[1]].tolist()])
            constants[f"k{ins[1]}"] = sizes
            where = (
                "half_pixel" if options.scalar(3, "b") else "align_corners" if options.scalar(2, "b") else "asymmetric"
            )
            attributes = {"mode": "linear", "coordinate_transformation_mode": where}
            nodes.append(Node("Resize", (name(ins[0]), "", "", f"k{ins[1]}"), (out,), attributes))
        elif code == RESHAPE:
            source = name(ins[0])
            if len(shapes[ins[0]]) == 4:  # the order of a flattened map is that of NHWC
                nodes.append(Node("Transpose", (source,), (out + "_nhwc",), {"perm": [0, 2, 3, 1]}))
                source = out + "_nhwc"
            nodes.append(Node("Reshape", (source,), (out,), {"shape": [0, *shapes[outs[0]][1:]]}))
        elif code == CONCAT:
            if len(shapes[outs[0]]) == 4:
                raise NotImplementedError("concatenation of maps")
            nodes.append(Node("Concat", tuple(map(name, ins)), (out,), {"axis": options.scalar(0)}))
        else:
            raise NotImplementedError(f"TensorFlow Lite operator {code}")

    source = int(subgraph.vector(1)[0])
    results = [name(int(i)) for i in subgraph.vector(2)]
    return Graph(nodes, constants, name(source), results), shapes[source][1]
