"""The ONNX operators of face networks, each as a differentiable torch function.

Signature: `op(attributes, *inputs) -> Tensor`. An optional input that is absent is None. Operators follow the ONNX
specification (onnx.ai/onnx/operators). A variant that is not supported raises UserError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError

Attributes = dict[str, Any]
OPS: dict[str, Callable[..., Tensor]] = {}

# onnx.TensorProto.DataType; float16 and float64 weights are computed in float32, so all float types are treated alike
FLOAT_TYPES = (1, 10, 11)
INT_TYPES = {2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool}


def op(*names: str):
    """Decorator that registers a function in `OPS` under ONNX operator names."""

    def register(function):
        for name in names:
            OPS[name] = function
        return function

    return register


def _unsupported(what: str) -> UserError:
    return UserError(f"The ONNX graph uses {what}, which is not supported; export the model without it.")


def _ints(t: Tensor | list[int]) -> list[int]:
    return [int(v) for v in (t.tolist() if isinstance(t, Tensor) else t)]


def _axes(a: Attributes, axes: Tensor | None) -> list[int] | None:
    """Axes from the input or the attribute: which of the two depends on the opset version."""
    if axes is not None:
        return _ints(axes)
    return list(a["axes"]) if "axes" in a else None


def _padded(a: Attributes, x: Tensor, kernel: list[int], stride: list[int], dilation: list[int], fill: float) -> Tensor:
    """`x` with the padding of a window operator. ONNX lists the beginnings of all axes, then the ends."""
    auto = a.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
    elif auto == "VALID":
        return x
    else:
        sides = []
        for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            small = total // 2
            sides.append((small, total - small) if auto == "SAME_UPPER" else (total - small, small))
        (top, bottom), (left, right) = sides
    if not any((top, bottom, left, right)):
        return x
    return F.pad(x, (left, right, top, bottom), value=fill)


@op("Conv")
def conv(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    if x.ndim != 4:
        raise _unsupported(f"Conv on a {x.ndim}-dimensional tensor")
    stride, dilation = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    x = _padded(a, x, list(w.shape[2:]), stride, dilation, 0.0)
    return F.conv2d(x, w, b, stride, 0, dilation, a.get("group", 1))


@op("MaxPool")
def max_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = a["kernel_shape"]
    stride, dilation = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    if a.get("ceil_mode"):
        raise _unsupported("MaxPool with ceil_mode")
    return F.max_pool2d(_padded(a, x, kernel, stride, dilation, float("-inf")), kernel, stride, 0, dilation)


@op("AveragePool")
def average_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel, stride = a["kernel_shape"], a.get("strides", [1, 1])
    if a.get("ceil_mode"):
        raise _unsupported("AveragePool with ceil_mode")
    y = F.avg_pool2d(_padded(a, x, kernel, stride, [1, 1], 0.0), kernel, stride)
    if not a.get("count_include_pad"):
        inside = x.new_ones(1, 1, *x.shape[2:])
        y = y / F.avg_pool2d(_padded(a, inside, kernel, stride, [1, 1], 0.0), kernel, stride)
    return y


@op("BatchNormalization")
def batch_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, scale, bias, False, 0.0, a.get("epsilon", 1e-5))


@op("PRelu")
def prelu(a: Attributes, x: Tensor, slope: Tensor) -> Tensor:
    # exporters of opset 6 wrote one slope per channel without the trailing axes
    if slope.ndim == 1 and x.ndim == 4 and slope.numel() not in (1, x.shape[3]):
        slope = slope.view(-1, 1, 1)
    if x.ndim == 4 and slope.shape == (x.shape[1], 1, 1):
        return F.prelu(x, slope.flatten())
    return torch.where(x >= 0, x, x * slope)


@op("Gemm")
def gemm(a: Attributes, x: Tensor, w: Tensor, c: Tensor | None = None) -> Tensor:
    x = x.t() if a.get("transA") else x
    w = w.t() if a.get("transB") else w
    y = a.get("alpha", 1.0) * (x @ w)
    return y if c is None else y + a.get("beta", 1.0) * c


@op("Clip")
def clip(a: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least = a.get("min") if low is None else low.item()
    most = a.get("max") if high is None else high.item()
    return x if least is None and most is None else x.clamp(least, most)


@op("Flatten")
def flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1) % (x.ndim + 1)
    rows = 1
    for n in x.shape[:axis]:
        rows *= n
    return x.reshape(rows, -1)


@op("Reshape")
def reshape(a: Attributes, x: Tensor, shape: Tensor | None = None) -> Tensor:
    wanted = _ints(shape) if shape is not None else list(a["shape"])
    if not a.get("allowzero"):
        wanted = [x.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    return x.reshape(wanted)


@op("Pad")
def pad(a: Attributes, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes=None) -> Tensor:
    if a.get("mode", "constant") != "constant" or axes is not None:
        raise _unsupported("Pad in another mode than constant, or on chosen axes")
    p = _ints(pads) if pads is not None else list(a["pads"])
    n = x.ndim
    flat = [v for i in reversed(range(n)) for v in (p[i], p[i + n])]  # torch counts from the last axis
    return F.pad(x, flat, value=float(value) if value is not None else a.get("value", 0.0))


@op("Resize", "Upsample")
def resize(a: Attributes, x: Tensor, *inputs: Tensor | None) -> Tensor:
    """2-D, linear or nearest. Inputs: (scales) in Upsample-9 and Resize-10, later (roi, scales, sizes)."""
    optional = [None, inputs[0]] if len(inputs) == 1 else list(inputs)
    scales, sizes = (optional + [None] * 3)[1:3]
    if sizes is not None and sizes.numel():
        size = tuple(_ints(sizes)[2:])
    elif scales is None:
        raise _unsupported("Resize without scales and sizes")
    else:
        size = tuple(int(n * s) for n, s in zip(x.shape[2:], scales.tolist()[2:], strict=True))
    mode, where = a.get("mode", "nearest"), a.get("coordinate_transformation_mode", "half_pixel")
    if mode == "nearest":
        return F.interpolate(x, size, mode="nearest")
    if mode != "linear":
        raise _unsupported(f"Resize in mode {mode}")
    if where in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return F.interpolate(x, size, mode="bilinear", align_corners=where == "align_corners")
    if where == "asymmetric":
        return _resize_axis(_resize_axis(x, size[0], 2), size[1], 3)
    raise _unsupported(f"Resize with coordinates {where}")


def _resize_axis(x: Tensor, size: int, axis: int) -> Tensor:
    """Linear along one axis with source = target * scale ("asymmetric": no half-pixel shift, as in old TensorFlow)."""
    n = x.shape[axis]
    at = torch.arange(size, device=x.device, dtype=x.dtype) * (n / size)
    low = at.floor().long().clamp(max=n - 1)
    high = (low + 1).clamp(max=n - 1)
    shape = [1] * x.ndim
    shape[axis] = size
    w = (at - low).view(shape)
    return x.index_select(axis, low) * (1 - w) + x.index_select(axis, high) * w


@op("Slice")
def slice_(a: Attributes, x: Tensor, starts=None, ends=None, axes=None, steps=None) -> Tensor:
    starts, ends = _ints(a["starts"] if starts is None else starts), _ints(a["ends"] if ends is None else ends)
    axes = _ints(axes) if axes is not None else list(a.get("axes", range(len(starts))))
    steps = _ints(steps) if steps is not None else [1] * len(starts)
    if min(steps) < 1:
        raise _unsupported("Slice with a negative step")
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(start, min(end, x.shape[axis]), step)
    return x[tuple(index)]


@op("Gather")
def gather(a: Attributes, x: Tensor, index: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.ndim
    index = torch.where(index < 0, index + x.shape[axis], index).long()
    picked = x.index_select(axis, index.reshape(-1))
    return picked.reshape((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


@op("Squeeze")
def squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    wanted = _axes(a, axes)
    return x.squeeze() if wanted is None else x.squeeze(tuple(wanted))


@op("Unsqueeze")
def unsqueeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    wanted = _axes(a, axes) or []
    for axis in sorted(v % (x.ndim + len(wanted)) for v in wanted):
        x = x.unsqueeze(axis)
    return x


@op("ReduceMean")
def reduce_mean(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.mean(_axes(a, axes) or list(range(x.ndim)), keepdim=bool(a.get("keepdims", 1)))


@op("ReduceSum")
def reduce_sum(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.sum(_axes(a, axes) or list(range(x.ndim)), keepdim=bool(a.get("keepdims", 1)))


@op("ReduceL2")
def reduce_l2(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return torch.linalg.vector_norm(x, dim=_axes(a, axes) or list(range(x.ndim)), keepdim=bool(a.get("keepdims", 1)))


@op("Cast")
def cast(a: Attributes, x: Tensor) -> Tensor:
    to = a["to"]
    if to in FLOAT_TYPES:
        return x if x.is_floating_point() else x.float()
    if to not in INT_TYPES:
        raise _unsupported(f"Cast to data type {to}")
    return x.to(INT_TYPES[to])


@op("ConstantOfShape")
def constant_of_shape(a: Attributes, shape: Tensor) -> Tensor:
    value = a.get("value", torch.zeros(1))
    return value.reshape(-1)[0].expand(_ints(shape)).clone()


@op("HardSigmoid")
def hard_sigmoid(a: Attributes, x: Tensor) -> Tensor:
    return (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1)


@op("Sum")
def sum_(a: Attributes, *x: Tensor) -> Tensor:
    return sum(x[1:], x[0])


@op("LpNormalization")
def lp_normalization(a: Attributes, x: Tensor) -> Tensor:
    return x / torch.linalg.vector_norm(x, a.get("p", 2), dim=a.get("axis", -1), keepdim=True)


OPS.update(
    Add=lambda a, x, y: x + y,
    Sub=lambda a, x, y: x - y,
    Mul=lambda a, x, y: x * y,
    Div=lambda a, x, y: x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc"),
    Pow=lambda a, x, y: x**y,
    Sqrt=lambda a, x: x.sqrt(),
    Neg=lambda a, x: -x,
    Abs=lambda a, x: x.abs(),
    Exp=lambda a, x: x.exp(),
    MatMul=lambda a, x, y: x @ y,
    Relu=lambda a, x: F.relu(x),
    LeakyRelu=lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    Sigmoid=lambda a, x: torch.sigmoid(x),
    HardSwish=lambda a, x: F.hardswish(x),
    Tanh=lambda a, x: torch.tanh(x),
    Softmax=lambda a, x: torch.softmax(x, a.get("axis", -1)),
    GlobalAveragePool=lambda a, x: x.mean((2, 3), keepdim=True),
    Transpose=lambda a, x: x.permute(list(a.get("perm", reversed(range(x.ndim))))),
    Concat=lambda a, *x: torch.cat(x, a["axis"]),
    Expand=lambda a, x, shape: x * torch.ones(_ints(shape), dtype=x.dtype, device=x.device),
    Shape=lambda a, x: torch.tensor(x.shape, device=x.device),
    Identity=lambda a, x: x,
    Dropout=lambda a, x, *unused: x,  # the identity at inference
)
