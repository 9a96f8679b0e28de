"""A network as data: a list of operator calls and their constant tensors, run by a small differentiable interpreter.

It runs the built-in face networks (stored in `assets/identity.safetensors`) and ArcFace networks (`.onnx` files). So no
second inference runtime is needed, and gradients with respect to the image are available.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .ops import OPS


@dataclass(frozen=True)
class Node:
    """One operator call: `outputs[0] = op(attributes, *inputs)`.

    op: ONNX operator, a key of `ops.OPS`
    inputs: names of earlier outputs, of constants or of the graph's input; "" for an optional input that is absent
    outputs: names of the results, of which only the first is computed
    attributes: ONNX attributes by name
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


class Graph(nn.Module):
    """Runs operator calls in order.

    nodes: the calls
    constants: name -> tensor. They are buffers: they follow `.to()` and `.double()` and get no gradient
    input: name of the only input, an image
    outputs: names of the results
    Raises UserError for an operator that is not in `ops.OPS`.
    """

    def __init__(self, nodes: Sequence[Node], constants: dict[str, Tensor], input: str, outputs: Sequence[str]):
        super().__init__()
        unknown = sorted({n.op for n in nodes} - OPS.keys())
        if unknown:
            raise UserError(
                f"The network uses the ONNX operator {', '.join(unknown)}, which is not supported; "
                "use a plain ArcFace recognition model (for instance w600k_r50.onnx of the buffalo_l pack)."
            )
        self.nodes, self.input, self.outputs = tuple(nodes), input, tuple(outputs)
        # names that are not used after each node; they are freed then, to limit memory
        last_use = {name: i for i, node in enumerate(nodes) for name in node.inputs if name and name not in constants}
        self._done = [[name for name in set(node.inputs) if last_use.get(name) == i] for i, node in enumerate(nodes)]
        self._buffer_of: dict[str, str] = {}
        for i, (name, value) in enumerate(constants.items()):
            self._buffer_of[name] = f"c{i}"
            # shapes, axes and indices stay integers; half-precision weights are computed in float32
            self.register_buffer(f"c{i}", value.float() if value.is_floating_point() else value, persistent=False)

    @property
    def constants(self) -> dict[str, Tensor]:
        """Constants by name."""
        return {name: getattr(self, key) for name, key in self._buffer_of.items()}

    def run(self, x: Tensor, names: Sequence[str]) -> list[Tensor]:
        """The tensors `names`, intermediate or final, for the input `x`."""
        values, wanted = {**self.constants, self.input: x}, set(names)
        for node, done in zip(self.nodes, self._done, strict=True):
            inputs = [values[name] if name else None for name in node.inputs]
            values[node.outputs[0]] = OPS[node.op](node.attributes, *inputs)
            for name in done:
                if name not in wanted:
                    del values[name]
        return [values[name] for name in names]

    def forward(self, x: Tensor) -> list[Tensor]:
        """The outputs for the input `x`."""
        return self.run(x, self.outputs)

    @torch.no_grad()
    def shapes(self, x: Tensor) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every node's output, in order, for the input `x`."""
        names = [n.outputs[0] for n in self.nodes]
        return {name: tuple(value.shape) for name, value in zip(names, self.run(x, names), strict=True)}
