"""The broad colour of the skin: held at that of the identity's prior while the photo guides, and in the result."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from fitdiff_core.errors import UserError
from fitdiff_core.guidance.broad_colour import BLOOD, BroadColour, LowBand, with_redness
from fitdiff_core.guidance.guided_denoiser import GuidedDenoiser
from fitdiff_core.image import linear_to_srgb, srgb_to_linear
from fitdiff_core.model.denoiser import unpack_latent
from fitdiff_core.model.samplers import ddim, sigmas
from fitdiff_core.sampling import SamplingRun
from tests.support.tiny_chain import K, changed, gaussian, noise, tiny_model

SIZE = 128
EVERYWHERE = torch.tensor([1.0, 1.0, 0.0, 0.0])[None, :, None, None].expand(1, 4, SIZE, SIZE)


def smooth(seed: int, amount: float, cells: int = 3) -> torch.Tensor:
    """A smooth field `[1, 3, SIZE, SIZE]`."""
    lattice = torch.randn(1, 3, cells, cells, generator=torch.Generator().manual_seed(seed)) * amount
    return F.interpolate(lattice, (SIZE, SIZE), mode="bicubic", align_corners=False)


def maps(seed: int) -> torch.Tensor:
    """A stack `[1, 9, SIZE, SIZE]` with broad colour and fine detail."""
    diffuse = 0.3 * (smooth(seed, 0.3) + smooth(seed + 50, 0.1, 60)).exp()
    return torch.cat([diffuse, torch.full((1, 6, SIZE, SIZE), 0.5)], 1)


@pytest.fixture
def band():
    return LowBand(EVERYWHERE, maps(1)[:, :3], 0.08)


def test_the_low_band_is_that_of_the_reference_and_detail_stays(band):
    given = maps(2)
    found = band.impose(given)
    before, after = (float((band.of(x[:, :3]) - band.reference).abs().mean()) for x in (given, found))
    assert after < 0.25 * before, (before, after)
    shades = [(x[:, :3] + 0.01).log() for x in (given, found)]
    fine = [(x - F.avg_pool2d(x, 9, 1, 4))[..., 20:-20, 20:-20] for x in shades]
    assert F.cosine_similarity(fine[0].flatten(), fine[1].flatten(), 0) > 0.99
    assert torch.equal(found[:, 3:], given[:, 3:])


def test_maps_with_that_low_band_are_left_alone(band):
    assert torch.allclose(band.impose(maps(1)), maps(1), atol=1e-5)


def test_no_gradient_reaches_the_low_band(band):
    """A gradient towards a brighter picture moves the detail only."""
    stack = maps(2).requires_grad_(True)
    (through,) = torch.autograd.grad(band.impose(stack)[:, :3].sum(), stack)
    (free,) = torch.autograd.grad(stack[:, :3].sum(), stack)
    broad = stack.detach() * (through != 0)  # of a common factor: d / d log albedo
    assert float((through * broad).sum().abs()) < 0.1 * float((free * broad).sum().abs())


def test_off_the_face_nothing_changes():
    regions = EVERYWHERE.clone()
    regions[..., : SIZE // 2] = 0
    found, given = LowBand(regions, maps(1)[:, :3], 0.08).impose(maps(2)), maps(2)
    left = slice(0, SIZE // 2 - 4)
    assert torch.equal(found[..., left], given[..., left])
    assert not torch.allclose(found[..., SIZE // 2 + 4 :], given[..., SIZE // 2 + 4 :], atol=0.01)


def test_the_skin_beside_the_face_changes_its_tone_as_the_face_does():
    regions, beside = EVERYWHERE.clone(), torch.zeros(1, 1, SIZE, SIZE)
    regions[..., : SIZE // 2], beside[..., : SIZE // 4] = 0, 1
    identity = maps(1)
    redder = identity[:, :3] * torch.tensor([1.2, 0.9, 1.0])[:, None, None]
    band = LowBand(regions, redder, 0.08, identity=identity[:, :3], beside=beside)
    ratio = (band.impose(identity)[:, :3] / identity[:, :3])[0, :, SIZE // 2]
    assert torch.allclose(ratio[:, 8], torch.tensor([1.2, 0.9, 1.0]), atol=0.03), ratio[:, 8]
    assert torch.allclose(ratio[:, SIZE * 3 // 8], torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("sigma", [-0.1, 0.6, float("nan")])
def test_a_width_out_of_range_is_a_user_error(sigma):
    with pytest.raises(UserError, match="broad colour"):
        BroadColour(sigma)


class Codec(torch.nn.Module):
    """An autoencoder whose latent is the coarse log albedo of two channels."""

    def decode(self, z, size=None):
        x = F.interpolate(z, (32, 32), mode="bilinear", align_corners=False)
        x = (torch.cat([x, x.mean(1, keepdim=True)], 1) * 0.3 - 1.2).exp()
        flat = torch.zeros_like(x[:, :1])
        return torch.cat([x, 0.34 + 0 * x, flat, flat, flat + 1], 1)

    def encode(self, stack):
        return (F.interpolate(stack[:, :2].log(), (8, 8), mode="area") + 1.2) / 0.3


def guided_by(photo, chain, texture_mean, **settings):
    model = tiny_model()
    model.autoencoder = Codec()
    settings = {"broad_colour": BroadColour(0.12)} | settings
    guidance = changed(chain.guidance, image=photo, texture_step=0.1, **settings)
    return GuidedDenoiser(gaussian, model, guidance, texture_mean=texture_mean)


def test_a_dark_photo_does_not_paint_the_skin(chain):
    dark = linear_to_srgb(srgb_to_linear(chain.guidance.target.photo.image) * 0.2)
    mean, drift = torch.full((1, 2, 8, 8), 0.4), {}
    for sigma in (0.0, 0.12):
        guided = guided_by(dark, chain, mean, broad_colour=BroadColour(sigma))
        latent = guided.finish(ddim(guided, noise(1), sigmas(12)))
        maps = guided.decode.decode(unpack_latent(latent, K)[0])[:, :3]
        drift[sigma] = float((maps.log().mean((2, 3)) - Codec().decode(mean)[:, :3].log().mean((2, 3))).abs().mean())
    assert drift[0.12] < 0.03 and drift[0.12] < 0.3 * drift[0.0], drift


def test_finish_changes_the_texture_only(chain):
    guided = guided_by(chain.guidance.target.photo.image, chain, torch.full((1, 2, 8, 8), 0.4))
    latent = noise(2) / 80
    with torch.inference_mode():
        found = guided.finish(latent)
    assert torch.equal(found[:, -1], latent[:, -1]) and not torch.allclose(found[:, :-1], latent[:, :-1])


def test_without_an_identity_nothing_is_held(chain):
    plain = guided_by(chain.guidance.target.photo.image, chain, None)
    latent = noise(1) / 80
    assert plain.decode.low_band is None and plain.finish(latent) is latent
    model = tiny_model()
    denoiser = SimpleNamespace(model=model, condition=None, texture_mean=lambda: None)
    run = SamplingRun(denoiser, chain.guidance, 0.2)
    assert run.guided.decode.low_band is None and run.finish(latent) is latent
    assert SamplingRun(denoiser, None, 0.2).finish(latent) is latent


def reading_of(colour: torch.Tensor) -> SimpleNamespace:
    """What `with_redness` asks of a reading, of a photo with this linear colour `[1, 3, SIZE, SIZE]`."""
    classes = torch.zeros(1, 8, SIZE, SIZE)
    classes[:, 0] = 1
    return SimpleNamespace(unwrapped=SimpleNamespace(colour=colour, seen=torch.ones(1, 1, SIZE, SIZE)), classes=classes)


def test_blood_is_the_skins_and_the_colour_of_a_lamp_is_not():
    diffuse = maps(1)[:, :3].clamp(0, 0.8)
    along = torch.tensor(BLOOD)[None, :, None, None]
    warm = torch.tensor([0.3, 0.0, -0.3])[None, :, None, None]  # from daylight to a lamp
    red = with_redness(diffuse, [reading_of(2 * diffuse * (0.1 * along + warm).exp())], 0.6)
    found = (red / diffuse).log().mean((2, 3))[0]
    assert F.cosine_similarity(found, torch.tensor(BLOOD), 0) > 0.99 and 0.04 < found.norm() < 0.07
    lamp = with_redness(diffuse, [reading_of(diffuse * warm.exp())], 0.6)
    assert (lamp / diffuse).log().mean((2, 3)).norm() < 0.005
    # light of a stage: no skin is that red
    stage = with_redness(diffuse, [reading_of((diffuse * (1.2 * along).exp()).clamp(max=1))], 0.6)
    assert (stage / diffuse).log().mean((2, 3)).norm() < 0.1
    assert with_redness(diffuse, [None], 0.6) is diffuse


def test_a_share_of_redness_out_of_range_is_refused():
    with pytest.raises(UserError, match="redness"):
        BroadColour(redness=1.5)
