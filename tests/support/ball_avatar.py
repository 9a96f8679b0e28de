"""An avatar made of balls, to export, and a reader of OBJ files."""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F

from fitdiff_core.maps import TextureMaps
from tests.support.meshes import PlainHead, front_uv, sphere


def avatar(batch=1, columns=24, size=32):
    """A ball with two small balls for eyes; the back of its uv is mirrored, the eyes' is not."""
    skin, faces = sphere(columns, columns // 2, 0.1)
    eye, eye_faces = sphere(12, 8, 0.012)
    eyes = [eye + torch.tensor([x, 0.03, 0.095], dtype=eye.dtype) for x in (0.03, -0.03)]
    vertices = torch.cat([skin, *eyes]).float()
    n = len(skin)
    head = PlainHead(
        triangles=torch.cat([faces, eye_faces + n, eye_faces + n + len(eye)]),
        n_skin=n,
        uv=torch.cat([front_uv(skin), *[front_uv(eye) * 0.1] * 2]).float(),
    )
    head.roughness[n:] = 0.12
    g = torch.Generator().manual_seed(0)
    normal = F.normalize(
        torch.randn(batch, 3, size, size, generator=g) * 0.3 + torch.tensor([0, 0, 1.0]).view(3, 1, 1), dim=1
    )
    maps = TextureMaps(*torch.rand(2, batch, 3, size, size, generator=g), normal)
    shape = torch.zeros(batch, 4)
    return SimpleNamespace(
        head=head, shape=shape, maps=maps, hair=None, vertices=lambda: vertices[None] + shape[:, :1, None]
    )


def read_obj(path):
    rows = {"v": [], "vt": [], "vn": [], "f": [], "usemtl": [], "o": [], "mtllib": []}
    for line in path.read_text().splitlines():
        key, *values = line.split()
        if key in rows:
            rows[key].append((len(rows["f"]), values))
    return {k: [v for _, v in r] if k != "usemtl" else r for k, r in rows.items()}
