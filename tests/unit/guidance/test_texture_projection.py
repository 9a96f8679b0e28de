"""The photo's colours on the texture: projected where the photo shows it, once at each of the chosen noise levels."""

import pytest
import torch

from fitdiff_core.guidance import PhotoObjective
from fitdiff_core.guidance.guided_denoiser import GuidedDenoiser
from fitdiff_core.guidance.low_frequency import LowFrequency
from fitdiff_core.guidance.texture_projection import change_of_code, log_ratio, project_photos
from tests.support.tiny_chain import changed, gaussian, tiny_chain


@pytest.fixture(scope="module")
def chain():
    return tiny_chain()


def objective_of(chain, **changes):
    guidance = changed(chain.guidance, low_frequency=LowFrequency(share=0.0), **changes)
    return PhotoObjective(chain.model.head, chain.model.autoencoder.decode, guidance)


def test_a_spot_of_the_photo_comes_onto_the_texture(chain):
    truth = chain.model.autoencoder.decode(chain.texture)
    spot = torch.zeros(1, 1, 32, 32)
    spot[..., 14:18, 10:14] = 1
    plain = torch.cat([truth[:, :3] * (1 + spot), truth[:, 3:]], 1)  # the photo lacks this bright spot
    objective = objective_of(chain)
    found = project_photos([(objective, objective.photo.scene)], plain, chain.shape)
    before, after = ((x - truth)[:, :3].abs() for x in (plain, found))
    assert float((after * spot).sum()) < 0.4 * float((before * spot).sum())
    far = 1 - torch.nn.functional.max_pool2d(spot, 5, 1, 2)
    assert float((after * far).sum() / far.sum()) < 0.02
    assert torch.equal(found[:, 3:], plain[:, 3:])


def test_what_is_hidden_in_the_photo_stays(chain):
    photo = chain.guidance.target.photo
    visible = torch.ones_like(photo.visible)
    visible[..., :, :32] = 0
    objective = objective_of(chain, visible=visible)
    stack = chain.model.autoencoder.decode(chain.texture) * torch.tensor([1.4] * 3 + [1.0] * 6)[:, None, None]
    found = project_photos([(objective, photo.scene)], stack, chain.shape)
    changed_by = (found - stack)[:, :3].abs().mean((0, 1, 2))
    assert float(changed_by[:11].max()) < 1e-6 < 0.003 < float(changed_by[20:28].min())


def test_a_texel_behind_another_is_not_seen(chain):
    objective = objective_of(chain)
    stack = chain.model.autoencoder.decode(chain.texture)
    _, open_weight = log_ratio(objective, objective.photo.scene, stack, chain.shape)
    folded = tiny_chain()
    rows = folded.model.head.mean
    behind = rows[:, 0] > 0.03  # the right side is folded behind the left one
    folded.model.head.mean[behind] = rows[behind] * torch.tensor([-1.0, 1, 1]) - torch.tensor([0, 0, 0.03])
    hidden = objective_of(folded)
    _, weight = log_ratio(hidden, hidden.photo.scene, stack, chain.shape)
    right = slice(26, 31)
    assert float(open_weight[..., right].mean()) > 5 * float(weight[..., right].mean())


def test_several_photos_are_averaged_by_how_well_they_show_a_texel(chain):
    stack, half = chain.model.autoencoder.decode(chain.texture), torch.ones(1, 1, 64, 64)
    half[..., :, :32] = 0
    whole, right = objective_of(chain), objective_of(chain, visible=half)
    both = project_photos([(o, o.photo.scene) for o in (whole, right)], stack, chain.shape)
    alone = project_photos([(whole, whole.photo.scene)], stack, chain.shape)
    assert torch.allclose(both[..., :11], alone[..., :11], atol=1e-5)


def test_the_change_of_code_is_the_difference_of_both():
    encode = lambda x: x[:, :2, ::4, ::4]  # noqa: E731
    a, b = torch.rand(2, 9, 16, 16), torch.rand(2, 9, 16, 16)
    assert torch.allclose(change_of_code(encode, a, b), change_of_code(encode, a - b, 0 * b), atol=1e-6)


def test_it_happens_once_at_each_level(chain):
    guided = GuidedDenoiser(gaussian, chain.model, changed(chain.guidance, projection=(1.0, 0.3)))
    done = []
    guided._projected = lambda z, s, sigma: done.append(sigma) or z
    for sigma in (4.0, 1.5, 0.9, 0.6, 0.25, 0.1):
        guided(torch.randn(1, 3, 8, 8), torch.tensor([sigma]))
    assert [round(x, 2) for x in done] == [0.9, 0.25]
