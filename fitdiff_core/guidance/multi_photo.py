"""Several photos of one person: put together, and looked at for strangers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..errors import UserError
from .objective import Guidance

LEVEL_STD, TINT_STD = 1.0, 0.3  # of the light of all photos but the first; as shares of its level


def as_guidances(guidance: Guidance | Sequence[Guidance]) -> tuple[Guidance, ...]:
    """One photo's guidance or several -> a tuple of at least one. Raises UserError for none, and for what is no guidance."""
    found = (guidance,) if isinstance(guidance, Guidance) else tuple(guidance)
    if not found:
        raise UserError("There is no photo to be guided by; prepare the guidance of at least one, or leave it out.")
    for g in found:
        if not isinstance(g, Guidance):
            raise UserError(f"A list of guidance holds a {type(g).__name__}; prepare each photo's guidance first.")
    return found


def with_reference(photos: Sequence[Guidance]) -> list[Guidance]:
    """The first photo is the reference for colour: the others' lights are free to be brighter, darker or tinted.

    A photo alone cannot tell a warm light from a warm skin, so a prior holds its light near white (`LightPrior`). Of several
    photos each would pull the skin to its own exposure and white balance.
    """

    def free(g: Guidance) -> Guidance:
        prior = g.light_prior
        return replace(g, light_prior=replace(prior, level_std=LEVEL_STD, tint_std=max(prior.tint_std, TINT_STD)))

    return [photos[0], *map(free, photos[1:])]


@torch.no_grad()
def strangers(guidance: Guidance | Sequence[Guidance]) -> list[tuple[int, int, float]]:
    """Photos that seem to show somebody else: (index, index of the photo compared with, distance / threshold above 1).

    Each is compared with the photo that is nearest to all others, of the two of a pair with the first. Photos of another
    recogniser have no common measure: each recogniser's are looked at by themselves.
    """
    photos, out = as_guidances(guidance), []
    for name in dict.fromkeys(g.recognizer.name for g in photos):
        index = [i for i, g in enumerate(photos) if g.recognizer.name == name]
        recognizer = photos[index[0]].recognizer
        embedding = torch.cat([photos[i].embedding.to(photos[index[0]].embedding) for i in index])
        n = len(index)
        distance = recognizer.distance(embedding.repeat_interleave(n, 0), embedding.repeat(n, 1)).view(n, n)
        centre = min(range(n), key=distance.sum(1).tolist().__getitem__)  # the first of equals
        share = (distance[centre] / recognizer.same_threshold).tolist()
        out += [(index[k], index[centre], s) for k, s in enumerate(share) if k != centre and s > 1]
    return sorted(out)


def describe_stranger(photo: str, other: str, share: float) -> str:
    """What `strangers` found, in words; photo, other: what the user knows them by."""
    return (
        f"{photo} may show somebody else than {other}: their distance is {share:.2f} times what one person's photos usually "
        "differ; leave it out if it does."
    )
