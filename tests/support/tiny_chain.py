"""The guidance's rendering chain at a small size: a sheet for a head, untrained networks, a photo of known latent."""

from dataclasses import replace
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from fitdiff_core.fitting import FittedPhoto
from fitdiff_core.guidance import Guidance, GuidanceSettings, GuidedDenoiser, PhotoTarget
from fitdiff_core.image import linear_to_srgb
from fitdiff_core.maps import TextureMaps
from fitdiff_core.model.linear_prior import LinearPrior
from fitdiff_core.render import Camera, Light, render
from fitdiff_core.render.shading import ROUGHNESS
from fitdiff_core.scene import Scene

K = 6


class PatchHead(torch.nn.Module):
    """A bulging 24 x 24 sheet that faces the camera: enough of a head to render, with 468 landmarks."""

    n_identity = K
    expression_names = tuple(f"action{i}" for i in range(52))
    region_names = ("face", "skin")
    n_teeth = 0

    def __init__(self, n=24):
        super().__init__()
        v, u = torch.meshgrid(torch.linspace(0, 1, n), torch.linspace(0, 1, n), indexing="ij")
        x, y = (u.flatten() - 0.5) * 0.16, (v.flatten() - 0.5) * 0.2
        z = 0.06 * torch.cos(x / 0.08 * 1.2) * torch.cos(y / 0.1 * 1.2)
        self.register_buffer("mean", torch.stack([x, y, z], 1))
        self.register_buffer("uv", torch.stack([u.flatten(), v.flatten()], 1) * 0.98 + 0.01)
        self.n_skin = n * n
        self.register_buffer("roughness", torch.full((n * n,), ROUGHNESS))
        self.register_buffer("occlusion", torch.ones(n * n))
        i = (torch.arange(n - 1)[:, None] * n + torch.arange(n - 1)).flatten()
        self.register_buffer(
            "triangles", torch.cat([torch.stack([i, i + 1, i + n], 1), torch.stack([i + 1, i + n + 1, i + n], 1)])
        )
        g = torch.Generator().manual_seed(0)
        c = self.mean[torch.randperm(n * n, generator=g)[: K + 52]]
        bump = torch.exp(-(self.mean[None] - c[:, None]).square().sum(2) / 0.002)
        self.register_buffer("basis", bump[..., None] * 0.003 * torch.randn(K + 52, 1, 3, generator=g))

    def forward(self, identity, expression=None, gaze=None):
        expression = identity.new_zeros(len(identity), 52) if expression is None else expression
        c = torch.cat([identity, expression.to(identity)], 1)
        return self.mean.to(c) + torch.einsum("bk,kvc->bvc", c, self.basis.to(c))

    def landmarks(self, vertices, which="mesh"):
        return vertices[:, :468]

    def landmark_weights(self, which):
        return torch.ones(468)

    def light_at(self, vertices):
        return self.occlusion.to(vertices).expand(len(vertices), -1)

    def region(self, name, size=512):
        return torch.ones(size, size)

    def uv_positions(self, vertices, size):
        t = (torch.arange(size) + 0.5) / size
        v, u = torch.meshgrid(1 - t, t, indexing="ij")
        at = ((torch.stack([u, v], -1) - 0.01) / 0.98 * 2 - 1).to(vertices)
        n = round(self.n_skin**0.5)
        grid = vertices.mT.unflatten(-1, (n, n))
        found = F.grid_sample(grid, at.expand(len(grid), -1, -1, -1), align_corners=True)
        return found, (at.abs() <= 1).all(-1)


class TinyRecognizer(torch.nn.Module):
    name, dim, crop_size, same_threshold = "tiny", 8, 48, 0.6

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.a, self.b = torch.nn.Conv2d(3, 6, 5, 2), torch.nn.Conv2d(6, 8, 5, 2)
        self.requires_grad_(False)

    def matrix(self, mesh):
        return torch.tensor([[[0.75, 0, 0], [0, 0.75, 0]]]).to(mesh).expand(len(mesh), -1, -1)

    def crop(self, image, matrix):
        return F.interpolate(image, (48, 48), mode="bilinear", antialias=True)

    def forward(self, crop):
        a = torch.tanh(self.a(crop - 0.4))
        b = torch.tanh(self.b(a))
        return SimpleNamespace(embedding=F.normalize(b.mean((2, 3)), dim=1), activations=(a, b))

    def distance(self, a, b):
        return (a - b).norm(dim=1)


class TinyDecoder(torch.nn.Module):
    """[B, 2, 8, 8] -> a 9-channel map stack."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.mix = torch.nn.Conv2d(2, 9, 3, padding=1)
        self.requires_grad_(False)

    def decode(self, z, size=256):
        x = self.mix(F.interpolate(z, (32, 32), mode="bilinear"))
        flat = torch.zeros_like(x[:, :1])
        return torch.cat([0.3 + 0.2 * torch.tanh(x[:, :3]), 0.34 + 0 * x[:, 3:6], flat, flat, flat + 1], 1)


def scene_of(size=64):
    camera = Camera(torch.tensor([5.0]), torch.tensor([[0.05, 0.1, 0.0]]), torch.tensor([[0.0, 0.0, -0.8]]))
    return Scene(camera, Light.ambient(1), torch.zeros(1, 52), torch.zeros(1, 2), (size, size))


def tiny_model():
    denoiser = SimpleNamespace(prior=LinearPrior(latent=2, size=8, shape=K, modes=0, features=0))
    return SimpleNamespace(head=PatchHead(), autoencoder=TinyDecoder(), denoiser=denoiser)


def tiny_chain():
    """A model, and guidance towards a render of a known latent and shape."""
    model = tiny_model()
    g = torch.Generator().manual_seed(5)
    z, s = torch.randn(1, 2, 8, 8, generator=g), torch.randn(1, K, generator=g)
    recognizer, scene = TinyRecognizer(), scene_of()
    maps = TextureMaps.from_stack(model.autoencoder.decode(z))
    vertices = model.head(s)
    out = render(vertices, model.head, maps, scene.camera, scene.light, size=(64, 64), background=(0.2, 0.3, 0.4))
    photo = linear_to_srgb(out.image).clamp(0, 1).detach()
    fitted = FittedPhoto(
        image=photo,
        visible=torch.ones(1, 1, 64, 64),
        scene=scene,
        shape=torch.zeros(1, K),
        mesh=scene.camera.project(model.head.landmarks(vertices), (64, 64)),
        mesh_weights=torch.ones(468),
        regions=torch.tensor([1.0, 1.0, 0.0, 0.0])[None, :, None, None].expand(1, 4, 32, 32),
    )
    steps = {"texture_step": 0.06, "shape_step": 0.006, "scene_step": 0.004}  # for the steps of the tests
    guidance = Guidance(PhotoTarget.of(fitted, recognizer), GuidanceSettings(**steps, projection=()))
    return SimpleNamespace(model=model, guidance=guidance, texture=z, shape=s)


def changed(guidance, **changes):
    """The guidance with other fields of its photo, its target or its settings, whichever has a field of that name."""
    photo, target, settings = guidance.target.photo, guidance.target, guidance.settings
    of = {name: x for x in (settings, target, photo) for name in x.__dataclass_fields__}
    parts = [{k: v for k, v in changes.items() if of[k] is x} for x in (photo, target, settings)]
    photo = replace(photo, **parts[0])
    return Guidance(replace(target, **parts[1] | {"photo": photo}), replace(settings, **parts[2]))


def noise(batch, seed=0):
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 80


def gaussian(x, s):
    """The denoiser whose data is a unit Gaussian."""
    return x / (1 + s.view(-1, 1, 1, 1) ** 2)


def real(chain, **settings):
    """Guided to the chain's photo, through its renderer."""
    return GuidedDenoiser(gaussian, chain.model, changed(chain.guidance, **settings))
