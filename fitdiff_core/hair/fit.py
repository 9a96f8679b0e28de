"""Hair like that of a photo."""

from __future__ import annotations

from .invent import suitable_style


def fit_hair(avatar, scene, photo, seed=0):
    return suitable_style(avatar, seed), []
