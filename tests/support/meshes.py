"""Meshes the renderer and exporter tests share."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch

from fitdiff_core.render.shading import ROUGHNESS


def sphere(columns=48, rows=24, radius=1.0, dtype=torch.float64):
    """A closed sphere: vertices `[V, 3]`, triangles `[T, 3]`, outside counter-clockwise."""
    theta = torch.arange(1, rows, dtype=dtype) * math.pi / rows
    phi = torch.arange(columns, dtype=dtype) * 2 * math.pi / columns
    t, p = torch.meshgrid(theta, phi, indexing="ij")
    ring = torch.stack([t.sin() * p.sin(), t.cos(), t.sin() * p.cos()], -1).reshape(-1, 3)
    vertices = torch.cat([ring, torch.tensor([[0.0, 1, 0], [0, -1, 0]], dtype=dtype)]) * radius
    top, bottom = len(vertices) - 2, len(vertices) - 1
    triangles = []
    for j in range(columns):
        k, last = (j + 1) % columns, (rows - 2) * columns
        triangles += [(top, j, k), (bottom, last + k, last + j)]
        for i in range(rows - 2):
            a, b = i * columns + j, i * columns + k
            triangles += [(a, a + columns, b), (b, a + columns, b + columns)]
    return vertices, torch.tensor(triangles)


def front_uv(vertices):
    """A uv for each vertex: the view from +z, so u grows to +x and v to +y on the front."""
    return vertices[:, :2] / vertices.abs().max() * 0.45 + 0.5


class PlainHead(SimpleNamespace):
    """The part of a `HeadModel` that renderer and exporters read: only skin, no eyes, teeth, regions or expressions."""

    def __init__(self, triangles, uv, **more):
        n = len(uv)
        usual = {
            "triangles": triangles,
            "uv": uv,
            "n_skin": n,
            "n_teeth": 0,
            "region_names": (),
            "expression_names": (),
            "eyeball": uv.new_zeros(0, 3),
            "roughness": torch.full((n,), ROUGHNESS, dtype=uv.dtype),
            "occlusion": torch.ones(n, dtype=uv.dtype),
        }
        super().__init__(**usual | more)

    def light_at(self, vertices):
        return self.occlusion.to(vertices).expand(len(vertices), -1)


def ball_head(columns=48, rows=24, radius=0.1, dtype=torch.float64):
    """A ball that `render` takes for a head -> (vertices `[1, V, 3]`, head)."""
    vertices, triangles = sphere(columns, rows, radius, dtype)
    return vertices[None], PlainHead(triangles, front_uv(vertices))
