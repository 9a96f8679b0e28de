"""The layout of the UV atlas: masks of its regions, and a template image for painting maps."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import UserError
from ..filters import dilate, gaussian_blur_replicate
from ..progress import report
from ..render.orientation import flip_rows, raster_to_image
from .model import HeadModel

# "skin" is everything but eyes, eye sockets and mouth; "all" is the part of the atlas that the mesh uses
REGIONS = (
    "face",
    "skin",
    "lips",
    "brows",
    "eyelids",
    "nose",
    "ears",
    "scalp",
    "neck",
    "mouth_interior",
    "teeth",
    "eyes",
    "iris",
    "all",
)
PAIRED = ("brows", "eyelids", "ears")
OUTLINES = {  # sRGB
    "face": (250, 250, 250),
    "scalp": (120, 170, 255),
    "neck": (120, 220, 170),
    "ears": (255, 170, 90),
    "brows": (170, 110, 60),
    "eyelids": (230, 110, 220),
    "nose": (255, 225, 90),
    "lips": (255, 90, 100),
    "mouth_interior": (150, 40, 50),
    "teeth": (235, 230, 200),
    "eyes": (90, 210, 255),
    "iris": (40, 120, 200),
}
LABELS = {"mouth_interior": "mouth"}
GREY, WIRE, GRID = 118, 134, 104
CELLS = 16  # grid cells along a side


@torch.no_grad()
def region_mask(head: HeadModel, name: str, size: int = 512, feather: float = 0.0) -> Tensor:
    """Mask `[size, size]` 0..1 of a region of the atlas, image orientation.

    name:    one of REGIONS
    feather: width of the soft edge in texels, half of it on either side

    Raises UserError for an unknown region.
    """
    if name not in REGIONS:
        raise UserError(f"Unknown region '{name}'; choose one of {', '.join(REGIONS)}.")
    if name == "all":
        mask = raster_to_image(head.rasterize_atlas(size)[..., 3:] > 0)[0, 0].float()
    else:
        mask = head.region(name, size)
    return gaussian_blur_replicate(mask, feather / 4) if feather > 0 else mask  # 4 sigma contain 95 % of an edge


@torch.no_grad()
def template(head: HeadModel, size: int = 1024, names: bool = True) -> Tensor:
    """A template to paint over: sRGB `[1, 3, size, size]`, grid and mesh on mid-grey, outlines and names of regions.

    "R" and "L" are the subject's right and left. names: whether to write the names.
    """
    rast = flip_rows(head.rasterize_atlas(size))[0]
    covered = rast[..., 3] > 0
    picture = np.full((size, size, 3), GREY, np.uint8)
    picture[(_near_edge(rast) & covered).cpu().numpy()] = WIRE
    lines = np.linspace(0, size - 1, CELLS + 1).round().astype(int)
    picture[lines], picture[:, lines] = GRID, GRID
    found = []
    for i, (name, color) in enumerate(OUTLINES.items()):
        report(i, len(OUTLINES) + 1)
        inside = (head.region(name, size) > 0.5).cpu()
        if name == "neck":  # its weights reach into the throat
            inside &= head.region("mouth_interior", size).cpu() < 0.5
        inside = inside.float()[None, None]
        width = max(1, round(size / 1024))
        edge = dilate(inside, 2 * width + 1) > inside
        picture[edge[0, 0].numpy()] = color
        found.append((name, color, inside[0, 0]))
    found[-2][2].sub_(found[-1][2])  # so that the name of the eyes is not on the iris
    image = Image.fromarray(picture)
    if names:
        _write(image, found, _left_is_right_of_middle(head))
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255


def _near_edge(rast: Tensor) -> Tensor:
    """Pixels `[S, S]` bool where the triangle id changes, so that two triangles meet."""
    ids = rast[..., 3]
    edge = torch.zeros_like(ids, dtype=torch.bool)
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge[1:] |= ids[1:] != ids[:-1]
    return edge


def _left_is_right_of_middle(head: HeadModel) -> bool:
    """Whether the subject's left (+x) is in the right half of the atlas."""
    x = head.mean[: 3 * head.n_control].view(-1, 3)[:, 0]
    skin = torch.sparse.mm(head.subdivision, x[:, None])[:, 0]
    u = head.uv[: len(skin), 0]
    return bool(((u - u.mean()) * skin).mean() > 0)


def _write(image: Image.Image, found: list, left_is_right: bool) -> None:
    """Write the names of the regions into the middle of their parts, with a dark outline."""
    size = image.width
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(max(10, size // 64))
    for name, color, inside in found:
        halves = [(inside, "")]
        if name in PAIRED:
            left, right = inside.clone(), inside.clone()
            left[:, size // 2 :], right[:, : size // 2] = 0, 0
            halves = [(left, " R" if left_is_right else " L"), (right, " L" if left_is_right else " R")]
        for part, side in halves:
            if part.sum() < 4:
                continue
            y, x = _inner_point(part)
            x = min(max(x, 0.04 * size), 0.96 * size)
            text = LABELS.get(name, name) + side
            draw.text(
                (x, y), text, color, font, anchor="mm", stroke_width=max(1, size // 700), stroke_fill=(40, 40, 40)
            )


def _inner_point(part: Tensor) -> tuple[float, float]:
    """(y, x) of a point well inside a mask `[S, S]`: where the blurred mask is largest."""
    cells = F.avg_pool2d(part[None, None], 8)[0, 0]
    soft = gaussian_blur_replicate(cells, len(cells) / 24) * cells
    at = int(soft.argmax())
    return (at // soft.shape[1]) * 8 + 4.0, (at % soft.shape[1]) * 8 + 4.0
