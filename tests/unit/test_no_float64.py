"""No float64 where the networks run: MPS has none. Proved on the CPU, by following what would be on the device."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

from fitdiff_core import pipeline
from fitdiff_core.render import Light, rasterizer
from fitdiff_core.render.passes import render_passes

pytestmark = pytest.mark.slow


class Device(TorchDispatchMode):
    """Follows the tensors that would be on a device: marked ones, and what is computed from one of them.

    `.cpu()` and `.to("cpu")` leave the device. What is made from numbers alone counts as on the CPU.
    """

    def __init__(self):
        super().__init__()
        self.there, self.ops = WeakIdKeyDictionary(), 0

    def mark(self, x):
        for tensor in tree_iter(x):
            if isinstance(tensor, torch.Tensor):
                self.there[tensor] = True
        return x

    def has(self, x) -> bool:
        return any(isinstance(t, torch.Tensor) and t in self.there for t in tree_iter(x))

    def left(self, tensor):
        """A copy that is on the CPU; gradients go through it."""
        copy = tensor.clone()
        self.there.pop(copy, None)
        return copy

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if self.has((args, kwargs)):
            self.ops += 1
            self.mark(out)
            if any(isinstance(t, torch.Tensor) and t.dtype == torch.float64 for t in tree_iter(out)):
                raise AssertionError(f"{func} makes float64 of a tensor that is on the device")
        return out


@pytest.fixture
def device(monkeypatch):
    device, cpu, to = Device(), torch.Tensor.cpu, torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x, *a, **kw: cpu(device.left(x) if device.has(x) else x, *a, **kw))
    monkeypatch.setattr(
        torch.Tensor,
        "to",
        lambda x, *a, **kw: to(device.left(x) if a[:1] == ("cpu",) and device.has(x) else x, *a, **kw),
    )
    # on devices without float64 the rasterizer finds its triangles on the CPU
    id_pass = rasterizer._id_pass
    monkeypatch.setattr(
        rasterizer,
        "_id_pass",
        lambda backend, kind: lambda pos, tri, *size: id_pass(backend, kind)(device.left(pos), device.left(tri), *size),
    )
    return device


def test_a_float64_on_the_device_is_noticed(device):
    x = device.mark(torch.ones(3))
    with device:
        (x * 2).cpu().double()
        torch.ones(3, dtype=torch.float64).sum()
        with pytest.raises(AssertionError, match="float64"):
            (x + 1).double()


def test_no_step_of_the_method_makes_float64_on_the_device(device, photo, shipped, recognizer, detector):
    networks = (shipped.head, shipped.autoencoder, shipped.denoiser, recognizer, detector)
    for network in networks:
        device.mark([*network.parameters(), *network.buffers()])
    photo = device.mark(photo.clone())
    with device:
        faces = pipeline.find_faces(photo, detector=detector)
        identity = pipeline.encode(photo, recognizer, faces)
        fitted = pipeline.fit_photos(photo, shipped.head, faces)
        guidance = pipeline.prepare_guidance(fitted, recognizer)
        latent, scene = pipeline.sample(shipped, identity, guidance, steps=2, sampler="dpmpp_2m")
        avatar = pipeline.decode(shipped, device.mark(latent))
        detail = pipeline.add_photo_detail(shipped, avatar, scene, photo, identity=identity)
        pipeline.render_avatar(detail.avatar, scene, 64)
        pipeline.render_avatar(avatar, scene, 64, light=Light.preset("side"))
        render_passes(avatar.vertices(scene), avatar.head, scene.camera, (64, 64), avatar.maps)
    assert device.ops > 5000 and device.has(detail.avatar.maps.diffuse)
