"""dlib's face recognition network, `dlib_face_recognition_resnet_model_v1` (Davis King, CC0), in torch.

A 29-convolution residual network trained by metric learning on 3 million faces: photos of one person lie closer than 0.6
(Euclidean) in its 128-dimensional output. Two habits of dlib's are kept to the letter: stride-2 convolutions have no
padding, and where a shortcut and its branch differ in size the smaller is zero-padded (channels last, bottom and right).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# (channels, halves the resolution) of each residual block
BLOCKS = [(32, False)] * 3 + [(64, True)] + [(64, False)] * 3 + [(128, True)] + [(128, False)] * 2
BLOCKS += [(256, True)] + [(256, False)] * 2 + [(256, True)]


class ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels: int, down: bool):
        super().__init__()
        self.down = down
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if self.down:
            x = F.avg_pool2d(x, 2)
        rows, columns = x.shape[2] - y.shape[2], x.shape[3] - y.shape[3]
        x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return F.relu(x + F.pad(y, (0, columns, 0, rows)))


class DlibResNet(nn.Module):
    """`[B, 3, 150, 150]` sRGB 0..1 -> `[B, 128]` (norm about 1.4, not normalised) and every block's output."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        widths = [32, *(c for c, _ in BLOCKS)]
        self.blocks = nn.ModuleList(ResidualBlock(n, c, d) for n, (c, d) in zip(widths, BLOCKS, strict=False))
        self.projection = nn.Linear(256, 128, bias=False)

    def convolutions(self) -> list[nn.Conv2d]:
        """The 29 convolutions in the order of the forward pass."""
        return [self.stem] + [c for b in self.blocks for c in (b.conv1, b.conv2)]

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = (x * 255 - self.mean.view(3, 1, 1)) / 256
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2)
        activations = []
        for block in self.blocks:
            x = block(x)
            activations.append(x)
        return self.projection(x.mean((2, 3))), activations
