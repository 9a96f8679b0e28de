"""What the delighting network says about a photo: what hides the face, and how its albedo differs from the prior's."""

import pytest
import torch

from fitdiff_core.delight.classes import CLASSES, GLASSES, HAIR, SKIN
from fitdiff_core.delight.network import COARSE
from fitdiff_core.delight.reading import PhotoReading
from fitdiff_core.delight.unwrapping import SIZE, UVPhoto
from fitdiff_core.errors import UserError
from fitdiff_core.guidance.broad_colour import BroadColour, with_residual


def reading(classes, seen=None):
    """A photo of one colour. classes: `[SIZE, SIZE]`."""
    seen = torch.ones(1, 1, SIZE, SIZE) if seen is None else seen
    normal = torch.zeros(1, 3, SIZE, SIZE)
    normal[:, 2] = 1
    photo = UVPhoto(torch.full((1, 3, SIZE, SIZE), 0.3), seen, seen, normal, torch.zeros(1, 2 * SIZE, 2 * SIZE, 2))
    return PhotoReading(photo, torch.nn.functional.one_hot(classes, len(CLASSES)).permute(2, 0, 1)[None].float())


def half_hair():
    classes = torch.full((SIZE, SIZE), SKIN)
    classes[:, : SIZE // 2] = HAIR
    return classes


def test_shares_count_only_the_face_that_is_seen():
    face = torch.ones(1, 1, 256, 256)
    found = reading(half_hair()).shares(face)
    assert found["hair over skin"] == pytest.approx(0.5) and found["glasses"] == 0
    face[..., :128] = 0
    assert reading(half_hair()).shares(face)["hair over skin"] == 0
    seen = torch.zeros(1, 1, SIZE, SIZE)
    seen[..., : SIZE // 2] = 1
    assert reading(half_hair(), seen).shares(torch.ones(1, 1, 64, 64))["hair over skin"] == pytest.approx(1)


def test_hidden_texels_are_those_of_things_before_the_face():
    classes = half_hair()
    classes[0] = GLASSES
    hidden = reading(classes).hidden[0, 0]
    assert hidden[0].all() and hidden[1, : SIZE // 2].all() and not hidden[1, SIZE // 2 :].any()


def test_the_residual_is_added_to_the_prior_in_its_share():
    prior, photo = torch.full((1, 3, 96, 96), 0.2), reading(half_hair())
    residual = photo.log_residual(prior)[0]
    assert residual.shape == (1, 3, COARSE, COARSE) and residual.abs().max() > 0
    assert torch.equal(with_residual(prior, [photo], 0.0), prior)
    assert torch.equal(with_residual(prior, [None], 1.0), prior)
    whole, half = (with_residual(prior, [photo], share).log() - prior.log() for share in (1.0, 0.5))
    assert torch.allclose(whole, 2 * half, atol=1e-5) and torch.isfinite(whole).all()
    two = with_residual(prior, [photo, photo], 1.0)
    assert torch.allclose(two, with_residual(prior, [photo], 1.0), atol=1e-6)


def test_shares_outside_the_range_are_refused():
    with pytest.raises(UserError, match="residual"):
        BroadColour(residual=1.5)
