"""The built-in recogniser: dlib's face recognition network (Davis King, CC0) in torch.

`dlib_face_recognition_resnet_model_v1` is a residual network of 29 convolutions, trained by metric learning on 3
million faces. Two photos of one person are closer than 0.6 (Euclidean) in its 128-dimensional output. Two properties
of dlib are reproduced exactly: convolutions of stride 2 have no padding; and where shortcut and branch differ in
size, the smaller one is zero-padded (channels at the end, pixels at the bottom and right).
"""

from __future__ import annotations

import os
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..graph.weights import load_resnet_state
from .recognizer import Features, Recognizer

# (channels, halves the resolution) of each residual block
BLOCKS = [(32, False)] * 3 + [(64, True)] + [(64, False)] * 3 + [(128, True)] + [(128, False)] * 2
BLOCKS += [(256, True)] + [(256, False)] * 2 + [(256, True)]


class ResidualBlock(nn.Module):
    """dlib's residual block `[B, i, h, w]` -> `[B, o, h', w']`; down: stride 2."""

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
    """Crop `[B, 3, 150, 150]`, sRGB 0..1 -> embedding `[B, 128]` (length about 1.4) and the output of each block."""

    mean: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        widths = [32, *(c for c, _ in BLOCKS)]
        self.blocks = nn.ModuleList(ResidualBlock(n, c, d) for n, (c, d) in zip(widths, BLOCKS, strict=False))
        self.projection = nn.Linear(256, 128, bias=False)

    def convolutions(self) -> list[nn.Conv2d]:
        """The 29 convolutions in the order of the forward pass."""
        blocks = [cast(ResidualBlock, block) for block in self.blocks]
        return [self.stem] + [c for b in blocks for c in (b.conv1, b.conv2)]

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = (x * 255 - self.mean.view(3, 1, 1)) / 256
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2)
        activations = []
        for block in self.blocks:
            x = block(x)
            activations.append(x)
        return self.projection(x.mean((2, 3))), activations


class DlibRecognizer(Recognizer):
    """dlib's network as a Recognizer: crop of 150 px, embedding of 128 dimensions.

    Activations are the outputs of residual blocks 3, 7 and 10 after their ReLU: `[B, 32, 35, 35]`, `[B, 64, 17, 17]`,
    `[B, 128, 8, 8]`.
    """

    name = "dlib_resnet_v1"
    dim = 128
    crop_size = 150
    activation_blocks = (3, 7, 10)
    # dlib's threshold holds for its raw embeddings, whose length is 1.43 +- 0.07 on photos. Ours have length 1, so
    # `distance` is multiplied by 1.43. On that scale the mean distance is 0.35 for one person and 0.85 for two people
    same_threshold = 0.6
    typical_norm = 1.43
    impostor_cosine = 0.825

    # alignment points in dlib's 5-point face chip (image_processing/frontal_face_detector.h), as a fraction of the chip
    # without its border: left eye outer and inner corner, right eye outer and inner corner, subnasale
    CHIP = (
        (0.8595674595992, 0.2134981538014),
        (0.6460604764104, 0.2289674387677),
        (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242),
        (0.4901123135679, 0.6277975316475),
    )
    MESH_POINTS = (263, 362, 33, 133, 2)  # the same five points in MediaPipe's face mesh
    BORDER = 0.25  # of the chip, on each side, as a fraction of its inner part

    def __init__(self, network: DlibResNet):
        super().__init__()
        self.network = network.train(False).requires_grad_(False)
        template = (torch.tensor(self.CHIP) + self.BORDER) / (1 + 2 * self.BORDER) * self.crop_size
        self.register_buffer("template", template, persistent=False)

    def alignment_points(self, mesh: Tensor) -> Tensor:
        return mesh[:, list(self.MESH_POINTS), :2]

    def distance(self, e1: Tensor, e2: Tensor) -> Tensor:
        """Distance `[B]` of unit embeddings `[B, 128]` on the scale of raw embeddings; one person if below 0.6."""
        return self.typical_norm * super().distance(e1, e2)

    def raw(self, crop: Tensor) -> Tensor:
        """dlib's own embedding `[B, 128]`, not normalised."""
        return self.network(crop)[0]

    def forward(self, crop: Tensor) -> Features:
        embedding, blocks = self.network(crop)
        return Features(F.normalize(embedding, dim=-1), tuple(blocks[i - 1] for i in self.activation_blocks))


def load_builtin(path: str | os.PathLike | None = None, device: torch.device | str = "cpu") -> DlibRecognizer:
    """dlib's recogniser.

    path: of the weights; None for the shipped `assets/identity.safetensors`
    device: default "cpu"
    Raises UserError if the file is missing or damaged.
    """
    network = DlibResNet()
    network.load_state_dict(load_resnet_state(path))
    return DlibRecognizer(network).to(device)
