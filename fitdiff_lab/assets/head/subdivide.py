"""Catmull-Clark subdivision (Catmull & Clark 1978) of a quad mesh with boundary, as one sparse linear operator."""

from __future__ import annotations

import numpy as np


def mesh_edges(quads: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """edges [E,2] (sorted vertex pairs), quad_edges [Q,4] (edge k joins corners k and k+1), faces at each edge [E]."""
    ends = np.stack([quads, np.roll(quads, -1, 1)], -1).reshape(-1, 2)
    edges, inverse, count = np.unique(np.sort(ends, 1), axis=0, return_inverse=True, return_counts=True)
    return edges, inverse.reshape(quads.shape), count


def catmull_clark(quads: np.ndarray, n: int):
    """One step of subdivision: matrix [n+E+Q, n] CSR and fine quads [4Q,4].

    quads: [Q,4]. n: vertices. The fine vertices are the moved old ones, then edge points, then face points. Boundary
    edges follow the cubic B-spline rule, so the boundary depends on itself only.
    """
    from scipy.sparse import coo_matrix, csr_matrix, vstack

    edges, quad_edges, count = mesh_edges(quads)
    n_edges, n_quads = len(edges), len(quads)
    ones = np.ones(4 * n_quads)
    face = csr_matrix((ones / 4, (np.repeat(np.arange(n_quads), 4), quads.ravel())), (n_quads, n))
    middle = csr_matrix((np.full(2 * n_edges, 0.5), (np.repeat(np.arange(n_edges), 2), edges.ravel())), (n_edges, n))
    edge_face = coo_matrix((ones, (quad_edges.ravel(), np.repeat(np.arange(n_quads), 4))), (n_edges, n_quads)).tocsr()
    inner = (count == 2).astype(float)
    edge = _scale(middle, 1 - inner / 2) + _scale(edge_face @ face, inner / 4)

    valence = np.bincount(edges.ravel(), minlength=n).astype(float)
    vertex_edge = coo_matrix(
        (np.ones(2 * n_edges), (edges.ravel(), np.repeat(np.arange(n_edges), 2))), (n, n_edges)
    ).tocsr()
    vertex_face = coo_matrix((ones, (quads.ravel(), np.repeat(np.arange(n_quads), 4))), (n, n_quads)).tocsr()
    on_boundary = np.zeros(n, bool)
    on_boundary[edges[count == 1]] = True
    identity = csr_matrix((np.ones(n), (np.arange(n), np.arange(n))), (n, n))
    k = np.maximum(valence, 1)
    faces_at = np.maximum(np.bincount(quads.ravel(), minlength=n), 1)
    free = ~on_boundary
    moved = (
        _scale(vertex_face @ face, free / (faces_at * k))
        + _scale(vertex_edge @ middle, free * 2 / k**2)
        + _scale(identity, free * (k - 3) / k)
    )
    rim = _scale(vertex_edge @ _scale(middle, count == 1), on_boundary / 4.0) + _scale(identity, on_boundary / 2.0)
    matrix = vstack([moved + rim, edge, face]).tocsr()
    matrix.sum_duplicates()

    corner_edge = n + quad_edges
    centre = n + n_edges + np.arange(n_quads)
    fine = np.stack(
        [np.stack([quads[:, i], corner_edge[:, i], centre, corner_edge[:, i - 1]], 1) for i in range(4)], 1
    ).reshape(-1, 4)
    return matrix, fine


def triangulate(quads: np.ndarray, points: np.ndarray | None = None) -> np.ndarray:
    """Triangles [2Q,3] of quads [Q,4]. With ``points`` [n,3] each quad is cut along its shorter diagonal."""
    if points is None:
        return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], 1).reshape(-1, 3)
    p = points[quads]
    first = np.linalg.norm(p[:, 0] - p[:, 2], axis=1) <= np.linalg.norm(p[:, 1] - p[:, 3], axis=1) + 1e-6
    along = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], 1)
    across = np.concatenate([quads[:, [0, 1, 3]], quads[:, [1, 2, 3]]], 1)
    return np.where(first[:, None], along, across).reshape(-1, 3)


def boundary_loop(triangles: np.ndarray) -> np.ndarray:
    """[L] vertices of the boundary loop in the order of its half-edges.

    Raises ValueError unless there is exactly one.
    """
    half = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    key, index, count = np.unique(np.sort(half, 1), axis=0, return_index=True, return_counts=True)
    if count.max() > 2:
        raise ValueError("the mesh is not manifold")
    after = {int(a): int(b) for a, b in half[index[count == 1]]}
    loop = [next(iter(after))]
    while after[loop[-1]] != loop[0]:
        loop.append(after[loop[-1]])
    if len(loop) != len(after):
        raise ValueError("the mesh has more than one boundary")
    return np.array(loop)


def _scale(matrix, factors):
    from scipy.sparse import diags

    return diags(np.asarray(factors, float)) @ matrix
