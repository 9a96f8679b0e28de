"""Small ONNX networks with random weights. Needs the `onnx` package: import inside a test, or after `importorskip`."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def model(nodes, weights, shape=(1, 3, 12, 10), output="y", out_shape=None, opset=13):
    """Nodes as (op, inputs, output, attributes); weights as name -> array."""
    nodes = [helper.make_node(op, list(i), [o], **a) for op, i, o, a in nodes]
    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape[1:]])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, out_shape)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def arr(*shape, seed=0, positive=False):
    a = np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)
    return np.abs(a) + 0.1 if positive else a


def iresnet(size=112, dim=64, own_range=False, seed=0):
    """A small network built as the recognition networks of insightface's packs are."""
    r = np.random.default_rng(seed)
    nodes, weights = [], {}

    def weight(name, *shape, scale=None):
        fan = np.prod(shape[1:]) if len(shape) > 1 else 1
        weights[name] = (r.normal(0, scale or fan**-0.5, shape)).astype(np.float32)
        return name

    def bn(x, n, y):
        for p in "gbm":
            weight(f"{y}_{p}", n, scale=0.1)
        weights[f"{y}_g"] += 1
        weights[f"{y}_v"] = np.abs(r.normal(1, 0.1, n)).astype(np.float32)
        nodes.append(("BatchNormalization", (x, *(f"{y}_{p}" for p in "gbmv")), y, {"epsilon": 2e-5}))

    start = "x"
    if own_range:
        weights |= {"mean": np.float32(127.5), "rate": np.float32(1 / 128)}
        nodes.extend([("Sub", ("x", "mean"), "x0", {}), ("Mul", ("x0", "rate"), "x1", {})])
        start = "x1"
    nodes.append(("Conv", (start, weight("w0", 8, 3, 3, 3)), "s0", {"pads": [1] * 4}))
    nodes.append(("PRelu", ("s0", weight("p0", 8, 1, 1)), "h0", {}))
    n = 8
    for i, m in enumerate((8, 12, 16, 24), 1):
        bn(f"h{i - 1}", n, f"n{i}")
        nodes.append(("Conv", (f"n{i}", weight(f"a{i}", m, n, 3, 3)), f"c{i}", {"pads": [1] * 4}))
        nodes.append(("PRelu", (f"c{i}", weight(f"q{i}", m, 1, 1)), f"d{i}", {}))
        nodes.append(("Conv", (f"d{i}", weight(f"e{i}", m, m, 3, 3)), f"f{i}", {"pads": [1] * 4, "strides": [2, 2]}))
        nodes.append(("Conv", (f"h{i - 1}", weight(f"z{i}", m, n, 1, 1)), f"g{i}", {"strides": [2, 2]}))
        nodes.append(("Add", (f"f{i}", f"g{i}"), f"h{i}", {}))
        n = m
    bn("h4", n, "last")
    nodes.append(("Flatten", ("last",), "flat", {"axis": 1}))
    side = -(-size // 16)
    nodes.append(("Gemm", ("flat", weight("fc", dim, n * side * side), weight("fb", dim)), "y", {"transB": 1}))
    return model(nodes, weights, (1, 3, size, size), out_shape=["N", dim])
