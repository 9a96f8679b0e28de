"""A picture of the faces of a photo: numbered boxes, the chosen one in green."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .choice import FaceSource
from .detect import Face, same_face

CHOSEN, OTHER, INK = (40, 220, 90), (250, 210, 60), (20, 20, 20)


def draw_faces(photo: Tensor, faces: Sequence[Face], chosen: Face) -> Tensor:
    """The photo with a numbered box round each face.

    photo: `[3, H, W]` sRGB 0..1
    faces: in the order in which they are counted, from 0
    chosen: drawn in green, the others in yellow
    Returns `[1, 3, H, W]`.
    """
    pixels = (photo.detach().cpu().clamp(0, 1).permute(1, 2, 0) * 255 + 0.5).byte().numpy()
    image = Image.fromarray(pixels)
    draw, side = ImageDraw.Draw(image), max(image.size)
    line = max(2, side // 300)
    font = ImageFont.load_default(max(14, side // 32))
    is_chosen = [same_face(face.box, chosen.box) for face in faces]
    for i in sorted(range(len(faces)), key=is_chosen.__getitem__):  # the chosen one last, on top
        x0, y0, x1, y1 = FaceSource.of(faces[i]).box
        colour = CHOSEN if is_chosen[i] else OTHER
        draw.rectangle((x0, y0, x1, y1), outline=colour, width=line)
        left, top, right, bottom = draw.textbbox((0, 0), str(i), font=font)
        width, height = right - left + 4 * line, bottom - top + 4 * line
        x, y = max(x0, 0), y0 - height if y0 >= height else max(y0, 0)  # above the face where there is room
        draw.rectangle((x, y, x + width, y + height), fill=colour)
        draw.text((x + 2 * line - left, y + 2 * line - top), str(i), fill=INK, font=font)
    return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)[None].contiguous()
