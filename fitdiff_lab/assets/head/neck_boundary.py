"""The neck boundary: moves the rows of the neck up, so that the mesh ends in a level ring and not on the shoulders."""

from __future__ import annotations

import numpy as np

from .subdivide import boundary_loop, mesh_edges

ROWS = 9  # rows of quads that are moved
CUT = 4.2  # row at which the new boundary lies


def neck_boundary_operator(quads: np.ndarray, triangles: np.ndarray, points: np.ndarray):
    """Sparse [n,n]: moves each vertex of the outer rows up along its column. Being linear, it applies to bases too.

    quads [Q,4], triangles [T,3], points [n,3]: of the symmetric template.
    """
    from scipy.sparse import lil_matrix

    n = len(points)
    edges = mesh_edges(quads)[0]
    neighbours = [[] for _ in range(n)]
    for a, b in edges:
        neighbours[a].append(int(b))
        neighbours[b].append(int(a))
    ring = boundary_loop(triangles)
    start = ring[np.abs(points[ring, 0]) < 1e-6]
    ring = np.roll(ring, -int(np.flatnonzero(ring == start[points[start, 2].argmax()])[0]))
    rows, seen = [ring], np.zeros(n, bool)
    for _ in range(ROWS):
        seen[rows[-1]] = True
        fresh = np.unique(quads[np.isin(quads, rows[-1]).any(1)])
        rows.append(_order(fresh[~seen[fresh]], neighbours, points, rows[-1]))
    out = lil_matrix((n, n))
    out.setdiag(1.0)
    # corners of different rows are not above each other, so a column joins the vertices of one number, not neighbours
    for column in np.stack(rows, 1):
        for k, vertex in enumerate(column):
            at = CUT + k * (ROWS - CUT) / ROWS
            low = min(int(at), ROWS - 1)
            out[vertex, vertex] = 0.0
            out[vertex, column[low]] += 1 - (at - low)
            out[vertex, column[low + 1]] += at - low
    return out.tocsr()


def _order(row: np.ndarray, neighbours: list[list[int]], points: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The vertices of a closed row in the order of the row below, starting at the middle of the front."""
    members = {int(v) for v in row}
    middle = row[np.abs(points[row, 0]) < 1e-6]
    path = [int(middle[points[middle, 2].argmax()])]
    side = np.sign(points[below[1], 0])
    while len(path) < len(row):
        steps = [v for v in neighbours[path[-1]] if v in members and v not in path]
        path.append(max(steps, key=lambda v: points[v, 0] * side) if len(path) == 1 else steps[0])
    return np.array(path)
