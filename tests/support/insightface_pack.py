"""An insightface pack made on the spot: a detector that always sees one given face, and a small ArcFace network.

insightface's own packs are downloads for research only; these files are read by the real package all the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIZE = 512  # of the detector's input, px; the sample photo's too, so that nothing is scaled
STRIDES, ANCHORS = (8, 16, 32), 2


def detector(points: np.ndarray):
    """An SCRFD graph that finds one face, at `points [5, 2]`, px.

    Nine outputs: score, box and five points at three strides.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    center, reach = points.mean(0), np.ptp(points, 0).max()
    outputs, values = [], []
    for i, stride in enumerate(STRIDES):
        cells = SIZE // stride
        n = cells * cells * ANCHORS
        score, box, keys = np.zeros((n, 1), np.float32), np.zeros((n, 4), np.float32), np.zeros((n, 10), np.float32)
        if i == 0:
            x, y = (center / stride).round().astype(int)
            row = (y * cells + x) * ANCHORS
            score[row], box[row] = 0.9, reach / stride
            keys[row] = ((points - np.array([x, y]) * stride) / stride).reshape(-1)
        for kind, value in (("score", score), ("box", box), ("keys", keys)):
            outputs.append((kind, i, f"{kind}{stride}", value.shape))
            values.append(numpy_helper.from_array(value, f"{kind}{stride}_value"))
    outputs.sort(key=lambda o: ("score", "box", "keys").index(o[0]))  # all scores, then all boxes, then all points
    nodes = [helper.make_node("Identity", [f"{name}_value"], [name]) for _, _, name, _ in outputs]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for _, _, name, shape in outputs],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def write_pack(root: Path, points: np.ndarray, name: str = "offline") -> Path:
    """`root/models/NAME` with detector and recognition network; returns that folder."""
    import onnx

    from .onnx_networks import iresnet

    folder = Path(root) / "models" / name
    folder.mkdir(parents=True)
    onnx.save(detector(points), folder / "det_512.onnx")
    onnx.save(iresnet(), folder / "w_offline.onnx")
    return folder
