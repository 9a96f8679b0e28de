"""Several photos of one person: their common reference for colour, and photos that seem to show another person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..errors import UserError
from ..identity import embedding_outliers
from .objective import Guidance

# standard deviations of the light of all photos but the first, as shares of its level
LEVEL_STD, TINT_STD = 1.0, 0.3


def as_guidances(guidance: Guidance | Sequence[Guidance]) -> tuple[Guidance, ...]:
    """The guidance of one photo or of several -> a tuple of at least one.

    Raises UserError for none, and for anything that is not a `Guidance`.
    """
    found = (guidance,) if isinstance(guidance, Guidance) else tuple(guidance)
    if not found:
        raise UserError("There is no photo to be guided by; prepare the guidance of at least one, or leave it out.")
    for g in found:
        if not isinstance(g, Guidance):
            raise UserError(f"A list of guidance holds a {type(g).__name__}; prepare each photo's guidance first.")
    return found


def with_colour_reference(photos: Sequence[Guidance]) -> list[Guidance]:
    """Make the first photo the reference for colour: the lights of the others may be brighter, darker or tinted.

    One photo cannot tell warm light from warm skin, so a prior holds its light near white (`LightPrior`). With the same
    prior for all, each photo would pull the skin towards its own exposure and white balance.
    """

    def loosened(g: Guidance) -> Guidance:
        prior = g.settings.light_prior
        prior = replace(prior, level_std=LEVEL_STD, tint_std=max(prior.tint_std, TINT_STD))
        return g.with_settings(light_prior=prior)

    return [photos[0], *map(loosened, photos[1:])]


@torch.no_grad()
def identity_outliers(guidance: Guidance | Sequence[Guidance]) -> list[tuple[int, int, float]]:
    """Photos that seem to show another person: (index, index of the photo compared with, distance / threshold above 1).

    Each photo is compared with the one that is nearest to all others; of two photos, the second with the first.
    Embeddings of different recognisers cannot be compared, so each recogniser's photos form a group of their own.
    """
    targets, out = [g.target for g in as_guidances(guidance)], []
    for name in dict.fromkeys(t.recognizer.name for t in targets):
        index = [i for i, t in enumerate(targets) if t.recognizer.name == name]
        first = targets[index[0]]
        embedding = torch.cat([targets[i].embedding.to(first.embedding) for i in index])
        out += [(index[i], index[k], share) for i, k, share in embedding_outliers(embedding, first.recognizer)]
    return sorted(out)


def describe_outlier(photo: str, other: str, share: float) -> str:
    """A warning about one result of `identity_outliers`. photo, other: names that the user knows the photos by."""
    return (
        f"{photo} may show somebody else than {other}: their distance is {share:.2f} times what one person's photos "
        "usually differ; leave it out if it does."
    )
