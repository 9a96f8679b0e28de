"""Reads the weights of dlib's face recognition network from its `.dat` file (dlib's portable serialisation).

`face_networks` uses it. The file names each layer ("con_4", "affine_", "fc_2"), so the code searches for the names and
does not parse the whole nested type. The file has the layers in the order from the output to the input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

N_CONVOLUTIONS = 29


@dataclass
class _Cursor:
    """A position in the file, and the primitive types of dlib's format."""

    data: bytes
    at: int = 0

    def integer(self) -> int:
        """A length byte (sign in its top bit), then that many little-endian bytes."""
        head = self.data[self.at]
        n = head & 0x0F
        value = int.from_bytes(self.data[self.at + 1 : self.at + 1 + n], "little")
        self.at += 1 + n
        return -value if head & 0x80 else value

    def real(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        return math.ldexp(mantissa, exponent)

    def tensor(self) -> np.ndarray:
        version, shape = self.integer(), [self.integer() for _ in range(4)]
        if version != 2:
            raise ValueError(f"dlib tensor version {version}")
        n = math.prod(shape)
        values = np.frombuffer(self.data, "<f4", n, self.at)
        self.at += 4 * n
        return values.reshape(shape)

    def alias(self) -> list[int]:
        """The shape of a view into a layer's parameter tensor."""
        if self.integer() != 1:
            raise ValueError("dlib alias tensor version")
        return [self.integer() for _ in range(4)]

    def skip_to(self, name: str) -> None:
        record = bytes([1, len(name)]) + name.encode()
        found = self.data.find(record, self.at)
        if found < 0:
            raise ValueError(f"no layer {name!r} in the file; this is not dlib_face_recognition_resnet_model_v1.dat")
        self.at = found + len(record)


def read_dlib_resnet(data: bytes) -> tuple[Tensor, list[tuple[Tensor, Tensor]], Tensor]:
    """Read the network: (mean `[3]`, [(weight, bias)] of 29 convolutions, projection `[128, 256]`).

    mean: RGB average that is subtracted from pixels 0..255. The convolutions are in the order of the forward pass; the
    affine layers are folded into them. Raises ValueError for another file.
    """
    r = _Cursor(data)
    r.skip_to("input_rgb_image_sized")
    mean = torch.tensor([r.real() for _ in range(3)])
    convolutions = []
    for _ in range(N_CONVOLUTIONS):
        r.skip_to("con_4")
        values = r.tensor().ravel()
        for _ in range(7):  # filters, kernel, stride, padding: `identity/dlib.py` has them
            r.integer()
        shape = r.alias()
        weight, bias = np.split(values, [math.prod(shape)])
        r.skip_to("affine_")
        gamma, beta = np.split(r.tensor().ravel(), 2)
        weight = weight.reshape(shape) * gamma[:, None, None, None]
        convolutions.append((torch.from_numpy(weight), torch.from_numpy(bias * gamma + beta)))
    r.skip_to("fc_2")
    n_out, n_in = r.integer(), r.integer()
    projection = torch.from_numpy(r.tensor().reshape(n_in, n_out).T.copy())
    return mean, convolutions, projection
