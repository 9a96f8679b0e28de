"""The head model: identity, expression and gaze -> vertices of a head with teeth and eyes.

The asset is built by `python -m fitdiff_lab.assets.head`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ..errors import UserError
from ..face.mesh_points import N_POINTS
from ..metadata import DAMAGE, check_fields, is_number, is_text, json_table, list_of
from .inner_mouth import MOUTH, InnerMouth
from .teeth import patch_mask

ASSET = Path(__file__).resolve().parent.parent / "assets" / "head.safetensors"
FORMAT = "fitdiff-head-1"
# the five points as means of the 68: eyes, tip of the nose, corners of the mouth; the subject's right first
FIVE = ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47), (30,), (48,), (54,))
ISLAND = ("eyes", "iris")  # regions of the eye island, not of the skin
TEETH = "teeth"
METADATA = {
    "atlas_version": is_text,
    "expression_names": list_of(is_text),
    "eye_island": list_of(is_number, 4),
    "eye_angle": is_number,
    "regions": list_of(is_text),
    "attribute_names": list_of(is_text),
}
_atlases = WeakTensorKeyDictionary()
# inner upper and inner lower lip, of the 68; metres behind the lips at which teeth and the rest of the mouth lie.
# Teeth lie on the lips; photos of smiles show them a quarter brighter than the skin of the cheeks.
LIPS, TEETH_BEHIND, BEHIND = ((61, 62, 63), (67, 66, 65)), 0.0008, 0.004


class HeadModel(nn.Module):
    """A linear head (3DMM) on a control mesh, refined once by Catmull-Clark subdivision, with teeth and two eyeballs.

    Attributes:
        n_identity, n_expression: K whitened identity coefficients, N(0, 1); 52 ARKit weights, 0..1.
        n_skin, n_teeth, n_vertices: vertex counts. Skin vertices come first, and the last n_teeth of them are the teeth
            (`teeth_rows`; none in a file without teeth). Then follow the left (+x) and the right eyeball.
        triangles: `[T, 3]` counter-clockwise from outside.
        uv: `[V, 2]` one for each vertex, v from the bottom. There are no seams.
        occlusion: `[V]` share of ambient light that arrives, of the mean head with open lips; see `light_at`.
        roughness: `[V]` perceptual, low on the eyes.
        region_names: the regions that `region` and `vertex_region` know.
        eye_island: (u0, v0, u1, v1) of the disc that both eyes share. The distance from its centre is linear in the
            polar angle from the axis of the eye, `eye_angle` degrees at the rim (iris 21.5, pupil 7.5).
        attribute_names, attribute_directions: names, and `[A, K]` coefficients per unit of each: feminine, 0..1; age, 0
            at 25 years and 1 at 90; ancestries, shares that sum to 1. Both are empty for a file without attributes.
    """

    # the buffers
    mean: Tensor
    identity: Tensor
    expression: Tensor
    subdivision: Tensor
    teeth_mean: Tensor
    teeth_identity: Tensor
    teeth_expression: Tensor
    eyeball: Tensor
    triangles: Tensor
    uv: Tensor
    occlusion: Tensor
    roughness: Tensor
    fields: Tensor
    landmark_ids: Tensor
    mesh_triangles: Tensor | None
    mesh_barycentric: Tensor | None
    mesh_weights: Tensor
    attribute_directions: Tensor

    def __init__(self, tensors: dict[str, Tensor], metadata: dict):
        super().__init__()
        self.metadata = metadata
        self.atlas_version: str = metadata["atlas_version"]
        self.expression_names: tuple[str, ...] = tuple(metadata["expression_names"])
        self.eye_island: tuple[float, ...] = tuple(metadata["eye_island"])
        self.eye_angle: float = metadata["eye_angle"]
        self._regions = tuple(metadata["regions"])
        t = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        n = t["control_mean"].shape[0]
        self.n_control, self.n_identity, self.n_expression = n, t["identity"].shape[0], t["expression"].shape[0]
        self.attribute_names: tuple[str, ...] = tuple(metadata.get("attribute_names", ()))
        directions = t.get("attribute_directions", t["control_mean"].new_zeros(0, self.n_identity))
        if directions.shape != (len(self.attribute_names), self.n_identity):
            raise KeyError("attribute_directions do not match their names")
        self.register_buffer("attribute_directions", directions, persistent=False)
        rows = t["subdivision_rows"].long()
        fine = int(rows.max()) + 1
        teeth = t.get("teeth_mean", t["control_mean"].new_zeros(0, 3))
        self.n_teeth = len(teeth)
        self.n_skin = fine + self.n_teeth
        self.teeth_rows = slice(fine, self.n_skin)
        # each row: 3n coordinates of the control mesh, then the two eye centres
        self.register_buffer("mean", torch.cat([t["control_mean"].reshape(-1), t["eye_mean"].reshape(-1)]))
        self.register_buffer("identity", torch.cat([t["identity"].flatten(1), t["eye_identity"].flatten(1)], 1))
        self.register_buffer("expression", t["expression"].flatten(1))
        index = torch.stack([rows, t["subdivision_columns"].long()])
        matrix = torch.sparse_coo_tensor(
            index, t["subdivision_values"], (fine, n), is_coalesced=True, check_invariants=True
        )
        self.register_buffer("subdivision", matrix)
        self.register_buffer("teeth_mean", teeth.reshape(-1))
        for name, k in (("identity", self.n_identity), ("expression", self.n_expression)):
            self.register_buffer(f"teeth_{name}", t.get(f"teeth_{name}", teeth.new_zeros(k, 0)).flatten(1))
        self.register_buffer("eyeball", t["eyeball"])  # [m, 3] about its centre, axis +z
        m = len(self.eyeball)
        self.n_vertices = self.n_skin + 2 * m
        eye = t["eyeball_triangles"].long()
        tri = [t["skin_triangles"].long(), eye + self.n_skin, eye + self.n_skin + m]
        uv, fields = [t["skin_uv"], t["eyeball_uv"], t["eyeball_uv"]], t["regions"].float() / 255
        if self.n_teeth:
            tri.insert(1, t["teeth_triangles"].long() + fine)
            uv.insert(1, t["teeth_uv"])
            inside = torch.tensor([[float(name == "mouth_interior")] for name in self._regions])
            fields = torch.cat([fields, inside.expand(-1, self.n_teeth)], 1)
        self.register_buffer("triangles", torch.cat(tri))
        self.register_buffer("uv", torch.cat(uv))
        for name in ("occlusion", "roughness"):
            skin, eyes = (t[name].float() / 255).split([fine, 2 * m])
            own = t.get(f"teeth_{name}", teeth.new_zeros(0)).float() / 255
            self.register_buffer(name, torch.cat([skin, own, eyes]))
        self.register_buffer("fields", fields)  # [R, n_skin]
        self.register_buffer("landmark_ids", t["landmarks68"].long())
        inner = {k.removeprefix(MOUTH): v for k, v in t.items() if k.startswith(MOUTH)}
        self.inner_mouth: InnerMouth | None = InnerMouth(inner) if inner else None
        mesh = t.get("mesh_triangles")
        self.register_buffer("mesh_triangles", None if mesh is None else mesh.long())  # [468, 3] vertex ids
        self.register_buffer("mesh_barycentric", None if mesh is None else t["mesh_barycentric"])
        self.register_buffer("mesh_weights", torch.ones(N_POINTS) if mesh is None else t["mesh_weights"])

    def forward(self, identity: Tensor, expression: Tensor | None = None, gaze: Tensor | None = None) -> Tensor:
        """Vertices `[B, V, 3]` in metres. Differentiable.

        identity:   `[B, K]` whitened coefficients
        expression: `[B, 52]` ARKit weights; None is neutral
        gaze:       `[B, 2]` yaw and pitch of both eyes, radians, positive to the subject's left and up; None is ahead
        """
        dtype, b, n = identity.dtype, identity.shape[0], self.n_control
        flat = self.mean.to(dtype) + identity @ self.identity.to(dtype)
        control, centres = flat[:, : 3 * n], flat[:, 3 * n :].view(b, 2, 1, 3)
        if expression is not None:
            control = control + expression @ self.expression.to(dtype)
        columns = rearrange(control, "b (n xyz) -> n (b xyz)", xyz=3)  # sparse matrices have no batch axis
        skin = rearrange(torch.sparse.mm(self.subdivision.to(dtype), columns), "v (b xyz) -> b v xyz", b=b)
        teeth = self.teeth_mean.to(dtype) + identity @ self.teeth_identity.to(dtype)
        if expression is not None:
            teeth = teeth + expression @ self.teeth_expression.to(dtype)
        ball = self.eyeball.to(dtype).expand(b, -1, -1)
        if gaze is not None:
            ball = ball @ gaze_rotation(gaze).transpose(1, 2)
        eyes = (ball[:, None] + centres).flatten(1, 2)
        return torch.cat([skin, teeth.view(b, -1, 3), eyes], 1)

    def eye_centres(self, identity: Tensor) -> Tensor:
        """Centres `[B, 2, 3]` of the left and the right eyeball of `[B, K]` coefficients, metres."""
        n, dtype = 3 * self.n_control, identity.dtype
        flat = self.mean[n:].to(dtype) + identity @ self.identity[:, n:].to(dtype)
        return flat.view(-1, 2, 3)

    def landmarks(self, vertices: Tensor, which: str = "68") -> Tensor:
        """Vertices `[B, V, 3]` -> landmarks `[B, N, 3]`: "68", "5" (eyes, nose tip, mouth corners) or "mesh" (468).

        Raises UserError for another set, and for "mesh" where the head file has none.
        """
        if which == "mesh":
            if self.mesh_triangles is None or self.mesh_barycentric is None:
                raise UserError(
                    "This head file has no face-mesh landmarks; rebuild it: python -m fitdiff_lab.assets.head"
                )
            return (vertices[:, self.mesh_triangles] * self.mesh_barycentric.to(vertices)[..., None]).sum(2)
        if which not in ("68", "5"):
            raise UserError(f"Unknown landmarks '{which}'; choose 68, 5 or mesh.")
        points = vertices[:, self.landmark_ids]
        return points if which == "68" else torch.stack([points[:, list(i)].mean(1) for i in FIVE], 1)

    def light_at(self, vertices: Tensor) -> Tensor:
        """Share of ambient light that arrives at posed vertices `[B, V, 3]`: `[B, V]`.

        It is `occlusion`, and for the teeth less where the opening between the lips is small.
        """
        light = self.occlusion.to(vertices).expand(len(vertices), -1)
        if not self.n_teeth:
            return light
        teeth = self.teeth_rows
        seen = light[:, teeth] * self.light_through_lips(vertices, TEETH_BEHIND)
        return torch.cat([light[:, : teeth.start], seen, light[:, teeth.stop :]], 1)

    def light_through_lips(self, vertices: Tensor, behind: float = BEHIND) -> Tensor:
        """Share of the sky `[B, 1]` that the opening between the lips shows, as a long slit, `behind` metres behind."""
        points = self.landmarks(vertices)
        slit = (points[:, LIPS[0]] - points[:, LIPS[1]])[..., 1].mean(1, keepdim=True).clamp(min=0)
        return slit / (slit.square() + 4 * behind**2).sqrt()

    def landmark_weights(self, which: str = "mesh") -> Tensor:
        """Confidence `[N]` of the landmarks, 0..1. The outline of the jaw has little: it slides along the face."""
        if which == "mesh":
            return self.mesh_weights
        weights = torch.ones(68 if which == "68" else 5)
        if which == "68":
            weights[:17] = 0.2
        return weights

    @property
    def region_names(self) -> tuple[str, ...]:
        return self._regions + (TEETH,) * bool(self.n_teeth) + ISLAND

    def vertex_region(self, name: str) -> Tensor:
        """Weight of each vertex in a region, `[V]`, 0..1. Raises UserError for an unknown region.

        "eyes" is every eyeball vertex, "iris" those within the iris. The teeth belong to "mouth_interior" too.
        """
        weights = torch.zeros(self.n_vertices, device=self.uv.device)
        if name in self._regions:
            weights[: self.n_skin] = self.fields[self._regions.index(name)]
        elif name == TEETH:
            weights[self.teeth_rows] = 1
        elif name in ISLAND:
            radius = (self.uv[self.n_skin :] - self._island_centre()).norm(dim=1) / self._island_radius()
            weights[self.n_skin :] = 1.0 if name == "eyes" else (radius * self.eye_angle <= 21.5).float()
        else:
            raise UserError(f"Unknown region '{name}'; choose one of {', '.join(self.region_names)}.")
        return weights

    @torch.no_grad()
    def region(self, name: str, size: int = 512) -> Tensor:
        """A region as mask `[size, size]` 0..1 in the atlas, image orientation. It is kept: do not write into it.

        Raises UserError for an unknown region.
        """
        return _kept(self.uv, (name, size), lambda: self._draw_region(name, size))

    def _draw_region(self, name: str, size: int) -> Tensor:
        if name in ISLAND:
            t = (torch.arange(size, device=self.uv.device) + 0.5) / size
            v, u = torch.meshgrid(1 - t, t, indexing="ij")
            centre = self._island_centre()
            radius = torch.stack([u - centre[0], v - centre[1]]).norm(dim=0) / self._island_radius()
            limit = 1.0 if name == "eyes" else 21.5 / self.eye_angle
            return ((limit - radius) * self._island_radius() * size + 0.5).clamp(0, 1)
        if name == TEETH:
            return patch_mask(size, self.uv.device).float() * bool(self.n_teeth)
        if name not in self._regions:
            raise UserError(f"Unknown region '{name}'; choose one of {', '.join(self.region_names)}.")
        return _kept(self.uv, ("regions", size), lambda: self._draw_regions(size))[self._regions.index(name)]

    def _draw_regions(self, size: int) -> Tensor:
        """All regions that are fields of the skin, `[R, size, size]`: one look-up costs what one alone does."""
        from ..render.interpolation import interpolate
        from ..render.orientation import raster_to_image

        weights = F.pad(self.fields, (0, self.n_vertices - self.n_skin)).T
        return raster_to_image(interpolate(weights, self.rasterize_atlas(size), self.triangles))[0]

    def uv_positions(self, vertices: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Position of each texel: vertices `[B, V, 3]` -> positions `[B, 3, size, size]`, covered `[size, size]` bool.

        Image orientation. Differentiable with respect to the vertices.
        """
        from ..render.interpolation import interpolate
        from ..render.orientation import raster_to_image

        rast = self.rasterize_atlas(size)
        positions = torch.cat([interpolate(v[None], rast, self.triangles) for v in vertices])
        return raster_to_image(positions), raster_to_image(rast[..., 3:] > 0)[0, 0]

    @torch.no_grad()
    def rasterize_atlas(self, size: int) -> Tensor:
        """The mesh rasterized in UV space: `[1, size, size, 4]` as `rasterize`, row 0 at the bottom. It is kept.

        Both eyes share an island; the left eye is drawn.
        """
        from ..render.rasterizer import rasterize

        one = torch.ones_like(self.uv[:, :1])
        pos = torch.cat([self.uv * 2 - 1, torch.zeros_like(one), one], 1)
        return _kept(self.uv, ("", size), lambda: rasterize(pos[None], self.triangles, (size, size)))

    def _island_centre(self) -> Tensor:
        u0, v0, u1, v1 = self.eye_island
        return self.uv.new_tensor([(u0 + u1) / 2, (v0 + v1) / 2])

    def _island_radius(self) -> float:
        return (self.eye_island[2] - self.eye_island[0]) / 2


@torch.inference_mode(False)
@torch.no_grad()
def _kept(uv: Tensor, key: tuple[str, int], make: Callable[[], Tensor]) -> Tensor:
    """A picture of the atlas (name, size), drawn once and kept as long as the head's `uv` exists."""
    known = _atlases.setdefault(uv, {})
    if key not in known:
        known[key] = make()
    return known[key]


def gaze_rotation(gaze: Tensor) -> Tensor:
    """Gaze `[B, 2]` (yaw and pitch, radians) -> rotations `[B, 3, 3]` that turn +z to the direction of the gaze."""
    yaw, pitch = gaze.unbind(1)
    cy, sy, cp, sp = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin()
    zero = torch.zeros_like(cy)
    rows = [cy, -sy * sp, sy * cp, zero, cp, sp, -sy, -cy * sp, cy * cp]
    return torch.stack(rows, 1).view(-1, 3, 3)


def load_head(path: str | os.PathLike | None = None, device: torch.device | str = "cpu") -> HeadModel:
    """The shipped head model, or another file of its format. Raises UserError for a missing or damaged file."""
    path = Path(path or ASSET)
    repair = "Reinstall FitDiff, or rebuild the file with: python -m fitdiff_lab.assets.head"
    if not path.is_file():
        raise UserError(f"The head model is missing: no file {path}. {repair}")
    try:
        with safe_open(str(path), "pt") as f:
            metadata = f.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(f"{path} is not a head model (format {metadata.get('format')!r}). {repair}")
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 (not a dict)
        described = json_table(metadata["head"])
        check_fields(described, METADATA, optional=("attribute_names",))
        head = HeadModel(tensors, described)
        _check(head)
        return head.to(device).train(False)
    except UserError:  # a subclass of ValueError, but no damage
        raise
    except (SafetensorError, *DAMAGE) as e:
        raise UserError(f"{path} is damaged ({type(e).__name__}: {e}). {repair}") from e


def _check(head: HeadModel) -> None:
    """Raises ValueError for values that are not finite, and for numbers of vertices that do not exist."""
    if len(head.expression_names) != head.n_expression:
        raise ValueError(f"{len(head.expression_names)} names for {head.n_expression} expressions")
    for name, values in head.named_buffers():
        if values.is_sparse:
            values = values.values()
        if values.is_floating_point() and not torch.isfinite(values).all():
            raise ValueError(f"{name} holds values that are not finite")
    for name in ("triangles", "landmark_ids", "mesh_triangles"):
        ids = getattr(head, name)
        if ids is not None and not ((ids >= 0) & (ids < head.n_vertices)).all():
            raise ValueError(f"{name} names vertices that do not exist")
    if len(head.uv) != head.n_vertices or len(head.occlusion) != head.n_vertices:
        raise ValueError("uv and occlusion do not match the vertices")
