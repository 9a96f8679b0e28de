"""Several photos of one person: put together, and looked at for strangers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import UserError
from .objective import Guidance


def as_guidances(guidance: Guidance | Sequence[Guidance]) -> tuple[Guidance, ...]:
    """One photo's guidance or several -> a tuple of at least one. Raises UserError for none, and for what is no guidance."""
    found = (guidance,) if isinstance(guidance, Guidance) else tuple(guidance)
    if not found:
        raise UserError("There is no photo to be guided by; prepare the guidance of at least one, or leave it out.")
    for g in found:
        if not isinstance(g, Guidance):
            raise UserError(f"A list of guidance holds a {type(g).__name__}; prepare each photo's guidance first.")
    return found


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
