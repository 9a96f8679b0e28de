"""A walk between two identities: its ends, its steps, and heads of a batch of identities that share one noise."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fitdiff_core import pipeline
from fitdiff_core.errors import UserError
from fitdiff_core.identity import Identity, blend_identities, walk_identities


def person(seed: int, config=None, people: int = 1, name: str = "built-in") -> Identity:
    g = torch.Generator().manual_seed(seed)
    width, layers = (8, (4, 6)) if config is None else (config.embedding, config.activations)
    activations = tuple(torch.randn(people, c, 4, 4, generator=g) for c in layers)
    embedding = F.normalize(torch.randn(people, width, generator=g), dim=-1)
    return Identity(embedding, activations, torch.rand(people, 3, 8, 8, generator=g), name)


def test_walk_starts_and_ends_at_the_two_and_is_a_blend_between():
    a, b = person(0), person(1)
    walk = walk_identities(a, b, 5)
    assert len(walk) == 5 and walk.crop.shape == (5, 3, 8, 8)
    torch.testing.assert_close(walk.embedding[:1], a.embedding)
    torch.testing.assert_close(walk.embedding[-1:], b.embedding)
    quarter = blend_identities(a, b, 0.25)
    for got, want in zip((walk.embedding, *walk.activations), (quarter.embedding, *quarter.activations), strict=True):
        torch.testing.assert_close(got[1:2], want)


def test_steps_along_the_sphere_are_even():
    walk = walk_identities(person(0), person(1), 9).embedding
    angles = torch.acos((walk[1:] * walk[:-1]).sum(-1))
    assert angles.min() > 0.05 and angles.max() - angles.min() < 1e-3


@pytest.mark.parametrize(
    "ends, says",
    [
        ((person(0), person(1), 1), "at least 2 frames"),
        ((person(0, people=2), person(1), 3), "one identity at each end"),
        ((person(0), person(1, name="another"), 3), "two recognisers"),
    ],
)
def test_bad_walks_are_refused(ends, says):
    with pytest.raises(UserError, match=says):
        walk_identities(*ends)


def test_people_of_a_batch_share_one_noise(shipped):
    """Each head is what its identity gives alone with the same seed; with a batch as large they start from seed + i."""
    two = person(3, shipped.denoiser.config, 2, shipped.recognizer)
    alone = [
        pipeline.sample(
            shipped,
            Identity(
                *(two.embedding[i : i + 1], tuple(a[i : i + 1] for a in two.activations)), two.crop, two.recognizer
            ),
            seed=seed,
            steps=2,
        )[0]
        for i, seed in ((0, 5), (1, 5), (1, 6))
    ]
    near = {"atol": 0.06, "rtol": 0.0}  # of unit variance; a batch rounds otherwise in bfloat16
    shared, scene = pipeline.sample(shipped, two, seed=5, steps=2)
    assert len(shared) == len(scene.expression) == 2
    torch.testing.assert_close(shared, torch.cat(alone[:2]), **near)
    apart, _ = pipeline.sample(shipped, two, seed=5, steps=2, batch=2)
    torch.testing.assert_close(apart, torch.cat([alone[0], alone[2]]), **near)
    assert (shared[1] - apart[1]).abs().mean() > 0.05


def test_a_batch_that_fits_no_identities_is_refused(shipped):
    with pytest.raises(UserError, match="3 identities and a batch of 2"):
        pipeline.sample(shipped, person(3, shipped.denoiser.config, 3, shipped.recognizer), batch=2, steps=1)
