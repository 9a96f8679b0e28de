"""Light, skin tone and the low-frequency residual: none of them is painted into the skin."""

import torch
import torch.nn.functional as F

from fitdiff_core.guidance import GuidanceWeights, PhotoObjective
from fitdiff_core.guidance.low_frequency import LowFrequency, light_gain, without_low_frequency_gradient
from fitdiff_core.guidance.skin_tone import skin_tone, tone_loss
from fitdiff_core.image import linear_to_srgb, srgb_to_linear
from fitdiff_core.model.denoiser import unpack_latent
from fitdiff_core.model.samplers import ddim, sigmas
from tests.support.tiny_chain import K, changed, noise, real


def shadowed(chain):
    """The chain's photo with a soft shadow over its left half, of another colour: as strong as a hard side light's."""
    ramp = torch.linspace(-3, 3, 64).sigmoid()
    gain = torch.stack([0.3 + 0.7 * ramp, 0.35 + 0.65 * ramp, 0.45 + 0.55 * ramp])[None, :, None]
    return changed(chain.guidance, image=linear_to_srgb(srgb_to_linear(chain.guidance.target.photo.image) * gain)), gain


def test_a_shadow_is_taken_for_light_and_fine_detail_is_not():
    g, all_of_it = torch.Generator().manual_seed(2), LowFrequency(share=1.0, sigma=0.05)
    render = 0.2 + 0.1 * torch.rand(1, 3, 64, 64, generator=g)
    ramp = torch.linspace(-2, 2, 64).sigmoid().expand(1, 3, 64, 64)
    skin = torch.zeros(1, 1, 64, 64)
    skin[..., 8:56, 8:56] = 1
    found = light_gain(render, linear_to_srgb(render * (0.4 + 0.5 * ramp)), skin, all_of_it)
    assert (found / (0.4 + 0.5 * ramp) - 1)[..., 16:48, 16:48].abs().max() < 0.08
    checks = 1 + 0.3 * ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2 - 1.0)
    found = light_gain(render, linear_to_srgb(render * checks), skin, all_of_it)
    assert (found.log()[..., 16:48, 16:48] - checks.log().mean()).abs().max() < 0.03
    brow = skin.clone()
    brow[..., 28:36, 20:44] = 0
    dark = linear_to_srgb(render * torch.where(brow > 0, 0.8, 0.1))
    assert (light_gain(render, dark, brow, all_of_it)[..., 30:34, 30:34] - 0.8).abs().max() < 0.05


def test_the_broad_pull_on_the_skin_is_taken_off_the_gradient():
    g = torch.Generator().manual_seed(2)
    skin = torch.zeros(1, 1, 64, 64)
    skin[..., :48] = 1
    fine = torch.randn(1, 3, 64, 64, generator=g)
    image = torch.rand(1, 3, 64, 64, generator=g).requires_grad_(True)
    seen = without_low_frequency_gradient(image, skin, LowFrequency(share=1.0))
    assert torch.equal(seen, image)
    (found,) = torch.autograd.grad(seen, image, fine + 2)
    assert abs(found[..., 12:36].mean()) < 0.1 and torch.equal(found[..., 48:], (fine + 2)[..., 48:])
    assert F.cosine_similarity(found[..., 12:36].flatten(), fine[..., 12:36].flatten(), dim=0) > 0.95


def test_a_shadow_no_longer_pulls_on_the_skin(chain):
    guidance, _ = shadowed(chain)
    left = {}
    for share in (0.0, 1.0):
        objective = PhotoObjective(
            chain.model.head,
            chain.model.autoencoder.decode,
            guidance.with_settings(weights=GuidanceWeights(0, 0, 1, 0), low_frequency=LowFrequency(share=share)),
        )
        texture = chain.texture.clone().requires_grad_(True)  # the true one: nothing should pull
        loss = objective(texture, chain.shape, guidance.scene)[0]
        left[share] = float(loss.detach()), float(torch.autograd.grad(loss.sum(), texture)[0].norm())
    assert left[1.0][0] < 0.4 * left[0.0][0] and left[1.0][1] < 0.6 * left[0.0][1], left


def test_the_tone_of_the_skin_stays_where_the_prior_has_it(chain):
    """A photo of the same head in half the light: without the tone loss the skin gets darker, with it the light."""
    dark = linear_to_srgb(srgb_to_linear(chain.guidance.target.photo.image) * 0.3)
    drift = {}
    for weight in (0.0, 1.0):
        weights = GuidanceWeights(identity=1, perceptual=0.5, photometric=1, landmark=0, tone=weight)
        guided = real(chain, image=dark, weights=weights, texture_step=0.1)
        start = skin_tone(chain.model.autoencoder.decode(torch.zeros(1, 2, 8, 8)), guided.skin)  # the toy prior's mean
        texture, _ = unpack_latent(ddim(guided, noise(1), sigmas(20)), K)
        found = skin_tone(chain.model.autoencoder.decode(texture), guided.skin)
        drift[weight] = float((found - start).abs().mean())
    assert drift[1.0] < 0.04 and drift[1.0] < 0.4 * drift[0.0], drift


def test_tone_is_the_mean_log_albedo_of_the_skin():
    stack = torch.full((2, 9, 4, 4), 0.24)
    stack[1, :3, :, 2:] = 0.9
    skin = torch.zeros(1, 1, 4, 4)
    skin[..., :2] = 1
    assert torch.allclose(skin_tone(stack, skin), torch.tensor(0.25).log().expand(2, 3))
    assert torch.allclose(tone_loss(torch.zeros(1, 3), torch.full((1, 3), 0.1)), torch.ones(1))
