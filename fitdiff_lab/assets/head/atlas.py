"""The atlas: the skin, one disk, unwrapped onto a square without its two lower corners (the eye island is in one).

Tutte's embedding (1963; mean value weights, Floater 2003) of a disk onto a convex outline never folds over, for any
positive weights. The weights are then adapted (after Yoshizawa, Belyaev & Seidel 2004) until each region has its wanted
density of
texels: high on the face, lower on the ears, low on the scalp and inside the mouth.
"""

from __future__ import annotations

import numpy as np

from .subdivide import boundary_loop

CUT = 0.30  # side of the cut corners
ISLAND_RADIUS, ISLAND_CENTRE = 0.081, 0.088
EYE_ANGLE = 80.0  # polar angle at the edge of the eye island, degrees
MARGIN = 0.004
DENSITY = {"face": 1.0, "ears": 0.4, "back": 0.13, "inside": 0.05, "body": 0.06}


def outline(t: np.ndarray) -> np.ndarray:
    """Points [m,2] at t in 0..1 along the outline, counter-clockwise from the middle of the bottom."""
    lo, hi = MARGIN, 1 - MARGIN
    corners = np.array([[0.5, lo], [1 - CUT, lo], [hi, CUT], [hi, hi], [lo, hi], [lo, CUT], [CUT, lo], [0.5, lo]])
    length = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    at = np.concatenate([[0], np.cumsum(length)]) / length.sum()
    return np.stack([np.interp(t, at, corners[:, k]) for k in range(2)], 1)


def boundary_positions(points: np.ndarray, loop: np.ndarray) -> np.ndarray:
    """uv [L,2] of the boundary's vertices: the middle of the front at the bottom, the middle of the back at the top."""
    rim = points[loop]
    front = int(np.argmax(rim[:, 2] - 10 * np.abs(rim[:, 0])))
    order = np.roll(np.arange(len(loop)), -front)
    ring = rim[order]
    if ring[len(loop) // 4, 0] < 0:  # towards the subject's left, which is +u
        order = np.concatenate([order[:1], order[:0:-1]])
        ring = rim[order]
    arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.roll(ring, -1, 0) - ring, axis=1))])
    out = np.empty((len(loop), 2))
    out[order] = outline(arc[:-1] / arc[-1])
    return out


def mean_value_weights(points: np.ndarray, triangles: np.ndarray):
    """Mean value weights of the neighbours of each vertex, sparse [n,n], positive."""
    from scipy.sparse import coo_matrix

    rows, columns, values = [], [], []
    for k in range(3):
        a, b, c = (triangles[:, (k + s) % 3] for s in range(3))
        ab, ac = points[b] - points[a], points[c] - points[a]
        lb, lc = np.linalg.norm(ab, axis=1) + 1e-9, np.linalg.norm(ac, axis=1) + 1e-9
        half = np.tan(np.arccos(np.clip((ab * ac).sum(1) / (lb * lc), -0.9999, 0.9999)) / 2)
        rows += [a, a]
        columns += [b, c]
        values += [half / lb, half / lc]
    n = len(points)
    return coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (n, n)).tocsr()


def embed(weights, loop: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """uv [n,2] with each inner vertex at the weighted mean of its neighbours.

    weights: sparse [n,n]. loop: [L] boundary vertices. rim: [L,2] their uv.
    """
    from scipy.sparse import diags, identity
    from scipy.sparse.linalg import splu

    n = weights.shape[0]
    inner = np.setdiff1d(np.arange(n), loop)
    normal = diags(1 / np.asarray(weights.sum(1)).ravel()) @ weights
    solver = splu((identity(len(inner)) - normal[inner][:, inner]).tocsc())
    uv = np.empty((n, 2))
    uv[loop] = rim
    uv[inner] = solver.solve(np.asarray(normal[inner][:, loop] @ rim))
    return uv


def signed_area(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """[T] area of triangles in the plane, points [n,2]; negative where they are turned over."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return 0.5 * ((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1]))


def surface_area(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """[T] area of triangles in space, points [n,3]."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)


def vertex_sum(values: np.ndarray, triangles: np.ndarray, n: int) -> np.ndarray:
    """[n] sum at each vertex of the values [T] of its triangles."""
    return sum(np.bincount(triangles[:, k], values, n) for k in range(3))


def target_density(regions: dict[str, np.ndarray]) -> np.ndarray:
    """[n] wanted density of texels at each vertex. regions: fields of `regions.vertex_regions`."""
    density = np.full(len(regions["face"]), DENSITY["back"])
    density = np.maximum(density, regions["ears"] * DENSITY["ears"])
    density = np.maximum(density, regions["face"] * DENSITY["face"])
    density = np.minimum(density, 1 - regions["neck"] * (1 - DENSITY["body"]))
    return np.where(regions["inside"] > 0.5, DENSITY["inside"], density)


def unwrap(
    points: np.ndarray, triangles: np.ndarray, mirror: np.ndarray, density: np.ndarray, rounds: int = 64
) -> np.ndarray:
    """uv [n,2] of the skin, mirror-symmetric about u = 0.5.

    points [n,3], triangles [T,3]: of the skin. mirror: [n] vertex of the other side. density: [n] wanted density of
    texels.
    Raises ValueError where the result folds over.
    """
    from scipy.sparse import diags

    n = len(points)
    loop = boundary_loop(triangles)
    rim = boundary_positions(points, loop)
    weights = mean_value_weights(points, triangles)
    area = vertex_sum(surface_area(points, triangles), triangles, n)
    neighbours = (weights > 0).astype(float)
    smooth = diags(1 / np.asarray(neighbours.sum(1)).ravel()) @ neighbours
    for _ in range(10):
        density = 0.5 * density + 0.5 * (smooth @ density)
    uv = embed(weights, loop, rim)
    for k in range(rounds):
        got = vertex_sum(np.abs(signed_area(uv, triangles)), triangles, n) / area / density
        # a vertex with too few texels gets less weight at its neighbours, so that its faces grow
        stretch = np.sqrt(got / np.exp(np.average(np.log(got), weights=area * density)))
        weights = weights @ diags(np.clip(stretch, 0.3, 3.0) ** (0.8 if k < 50 else 0.3))
        uv = embed(weights, loop, rim)
        uv = 0.5 * (uv + uv[mirror] * [-1, 1] + [1, 0])
    if flipped := int((signed_area(uv, triangles) <= 0).sum()):
        raise ValueError(f"the unwrap folds over in {flipped} triangles")
    return uv


def statistics(points: np.ndarray, triangles: np.ndarray, uv: np.ndarray, face: np.ndarray) -> dict[str, float]:
    """Used share of the square, the face's share of it, and texels per millimetre on the face at 512 texels."""
    flat, solid = np.abs(signed_area(uv, triangles)), surface_area(points, triangles)
    on_face = face[triangles].mean(1) > 0.5
    density = np.sqrt(flat / solid)[on_face] * 512 / 1000
    return {
        "atlas_used": float(flat.sum() + np.pi * ISLAND_RADIUS**2),
        "atlas_face_share": float(flat[on_face].sum() / flat.sum()),
        "face_texels_per_mm": float(np.median(density)),
        "face_texels_per_mm_p5": float(np.percentile(density, 5)),
    }
