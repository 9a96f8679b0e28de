"""Finds MediaPipe's 468 face-mesh points on our skin.

Random heads are rendered, the mesh network finds its points in the pictures, and each point is projected back to the
surface. The result is the median over many people and views.
"""

from __future__ import annotations

import numpy as np

from fitdiff_core.errors import UserError
from fitdiff_core.face.mesh_points import LOWER_LIP_INNER, N_POINTS, OUTLINE, UPPER_LIP_INNER
from fitdiff_core.render.orientation import flip_rows

VIEWS = ((0, 0), (-14, 0), (14, 0), (0, -9), (0, 9))  # camera yaw, pitch in degrees
PICTURE, PHOTO_DISTANCE, PHOTO_FOV = 640, 0.9, 19.0
PEOPLE, STRENGTH = 24, 0.8
REACH = 14  # px that a point may move to find skin; the inner edges of lids and lips often fall on the eye or mouth
DOUBT_MM = 3.0  # scatter at which the weight of a point is one half
OUTLINE_WEIGHT = 0.2  # the outline of the face follows the silhouette, so it moves over the skin when the head turns
CHIN_POINTS = (148, 152, 377)  # points of the outline that do not move


def face_mesh_points(head, people: int = PEOPLE) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The face-mesh tensors of a head file, and metrics.

    head: a `HeadModel` without them. people: random heads. The tensors are mesh_triangles [468,3] (vertex ids),
    mesh_barycentric [468,3] and mesh_weights [468]. Raises UserError where the detector finds a face in too few
    pictures.
    """
    import torch

    from fitdiff_core.face import load_detector

    from ...synthetic.skin import SkinGenerator

    torch.manual_seed(0)
    detector, skins = load_detector(), SkinGenerator(head, 512)
    generator = torch.Generator().manual_seed(3)
    found, frontal = [], []
    for person in range(people):
        vertices = head(STRENGTH * torch.randn(1, head.n_identity, generator=generator))
        maps = skins.sample(person)[0]
        for yaw, pitch in VIEWS:
            face, uv = _look(head, vertices, maps, detector, yaw, pitch)
            if face is None:
                continue
            found.append(uv)
            if yaw == 0 and pitch == 0:
                frontal.append(face)
    if len(found) < people * len(VIEWS) / 2 or len(frontal) < people / 2:
        raise UserError(
            f"The detector found a face in only {len(found)} of {people * len(VIEWS)} renders; check the head."
        )
    mirror = mirror_pairs(np.stack(frontal))
    samples = np.stack(found)  # [m,468,2], NaN where the surface was not seen
    samples = np.concatenate([samples, samples[:, mirror] * [-1, 1] + [1, 0]])
    uv = np.nanmedian(samples, axis=0)
    uv = (uv + uv[mirror] * [-1, 1] + [1, 0]) / 2
    triangles, barycentric = locate(uv, head)
    spread = _spread_mm(samples, uv, triangles, head)
    weights = 1 / (1 + (spread / DOUBT_MM) ** 2)
    weights[list(set(OUTLINE) - set(CHIN_POINTS))] *= OUTLINE_WEIGHT
    seen = np.isfinite(samples[..., 0]).mean(0)
    weights = weights * np.clip(seen * 2, 0, 1)
    inside = np.setdiff1d(np.arange(N_POINTS), OUTLINE)
    metrics = {
        "face_mesh_scatter_mm": float(np.median(spread[inside])),
        "face_mesh_scatter_mm_p95": float(np.percentile(spread[inside], 95)),
        "face_mesh_pictures": float(len(found)),
    }
    tensors = {
        "mesh_triangles": head.triangles.numpy()[triangles].astype(np.int32),
        "mesh_barycentric": barycentric.astype(np.float32),
        "mesh_weights": weights.astype(np.float32),
    }
    return tensors, metrics


def _look(head, vertices, maps, detector, yaw: float, pitch: float):
    """One picture: mesh [468,3] px, and uv [468,2] with NaN for points without skin. (None, None) without a face."""
    import torch

    from fitdiff_core.image import linear_to_srgb
    from fitdiff_core.render import Camera, Light, render

    camera = Camera.orbit(float(yaw), float(pitch), PHOTO_DISTANCE, PHOTO_FOV)
    with torch.no_grad():
        out = render(vertices, head, maps, camera, Light.studio(), (PICTURE, PICTURE), background=(0.35, 0.37, 0.4))
        faces = detector.detect(linear_to_srgb(out.image)[0].clamp(0, 1))
    if not faces:
        return None, None
    mesh = faces[0].mesh[:N_POINTS].numpy().astype(np.float64)
    face_id = flip_rows(out.rast)[0, ..., 3].long().numpy() - 1
    triangle = head.triangles[torch.from_numpy(np.maximum(face_id, 0))]
    hidden = head.vertex_region("mouth_interior") + head.vertex_region("eyes")
    skin = (face_id >= 0) & (hidden[triangle].amax(-1).numpy() < 0.5)
    uv_image = out.uv[0].numpy()
    lip_line = head.uv[head.landmark_ids[[60, 64]], 1].mean().item()
    above = skin & (uv_image[..., 1] > lip_line)
    # where the inner rims of the lips touch, nearest skin alone cannot tell which lip a point belongs to
    allowed = dict.fromkeys(UPPER_LIP_INNER, above) | dict.fromkeys(LOWER_LIP_INNER, skin & ~above)
    uv = np.full((N_POINTS, 2), np.nan)
    for i, (x, y) in enumerate(mesh[:, :2]):
        at = _nearest(allowed.get(i, skin), x, y)
        if at is not None:
            uv[i] = uv_image[at]
    return mesh, uv


def _nearest(mask: np.ndarray, x: float, y: float) -> tuple[int, int] | None:
    """(row, column) of the nearest pixel of ``mask`` to (x, y), at most `REACH` px away; else None."""
    column, row = int(x), int(y)
    r0, c0 = max(row - REACH, 0), max(column - REACH, 0)
    rows, columns = np.nonzero(mask[r0 : row + REACH + 1, c0 : column + REACH + 1])
    if not len(rows):
        return None
    distance = (rows + r0 + 0.5 - y) ** 2 + (columns + c0 + 0.5 - x) ** 2
    k = distance.argmin()
    return (int(rows[k] + r0), int(columns[k] + c0)) if distance[k] <= REACH**2 else None


def mirror_pairs(meshes: np.ndarray) -> np.ndarray:
    """[468] index of the mirror image of each point, from frontal meshes [m,468,3]."""
    from scipy.optimize import linear_sum_assignment

    normal = meshes - meshes.mean(1, keepdims=True)
    normal = (normal / np.abs(normal[..., :2]).max((1, 2), keepdims=True)).mean(0)
    for _ in range(3):  # alternate between the pairs and the plane of symmetry, which is not exactly x = 0
        cost = np.linalg.norm(normal[:, None] * [-1, 1, 1] - normal[None], axis=-1) ** 2
        index = linear_sum_assignment(cost)[1]
        normal = normal - [(normal[:, 0] + normal[index, 0]).mean() / 2, 0, 0]
    if not (index[index] == np.arange(len(index))).all():
        raise ValueError("the mesh points do not pair up")
    return index


def locate(uv: np.ndarray, head) -> tuple[np.ndarray, np.ndarray]:
    """Triangle index [N] and barycentric weights [N,3] of atlas positions [N,2]: on the skin, or the nearest."""
    skin = head.triangles.numpy()[: int((head.triangles < head.n_skin).all(1).sum())]
    corner = head.uv.numpy().astype(np.float64)[skin]
    a, ab, ac = corner[:, 0], corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    det = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    triangles, weights = np.empty(len(uv), np.int64), np.empty((len(uv), 3))
    for i, p in enumerate(uv):
        ap = p - a
        v = (ap[:, 0] * ac[:, 1] - ap[:, 1] * ac[:, 0]) / det
        w = (ab[:, 0] * ap[:, 1] - ab[:, 1] * ap[:, 0]) / det
        bary = np.stack([1 - v - w, v, w], 1)
        k = bary.min(1).argmax()
        triangles[i] = k
        clipped = np.clip(bary[k], 0, None)
        weights[i] = clipped / clipped.sum()
    return triangles, weights


def _spread_mm(samples: np.ndarray, uv: np.ndarray, triangles: np.ndarray, head) -> np.ndarray:
    """[468] median distance of the samples to their median, mm on the mean head."""
    import torch

    mean = head(torch.zeros(1, head.n_identity))[0].numpy()
    ids = head.triangles.numpy()[triangles]
    flat, solid = head.uv.numpy()[ids].astype(np.float64), mean[ids].astype(np.float64)
    area = np.abs(np.cross(flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]))
    surface = np.linalg.norm(np.cross(solid[:, 1] - solid[:, 0], solid[:, 2] - solid[:, 0]), axis=1)
    scale = np.sqrt(surface / area) * 1000  # mm per unit of uv
    return np.nanmedian(np.linalg.norm(samples - uv, axis=-1), axis=0) * scale
