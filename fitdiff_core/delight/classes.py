"""What a texel of the unwrapped photo shows."""

from __future__ import annotations

CLASSES = ("skin", "lip", "brow", "beard", "scalp hair", "hair over skin", "glasses", "other occluder")
SKIN, LIP, BROW, BEARD, SCALP, HAIR, GLASSES, OTHER = range(len(CLASSES))
HIDING = (HAIR, GLASSES, OTHER)  # not of this person's skin
