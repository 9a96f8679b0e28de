"""ICC colour profiles of photos: pixels of any profile become sRGB (ICC.1:2022; Pillow's LittleCMS does the work)."""

from __future__ import annotations

import io
import itertools
import logging

import numpy as np
from PIL import Image

# the profile's colour space -> the modes of pictures that it can describe, each with the mode it is applied in
MODES = {
    "RGB": {"RGB": "RGB", "RGBX": "RGB", "L": "RGB", "1": "RGB", "P": "RGB"},
    "GRAY": {"L": "L", "1": "L"},
    "CMYK": {"CMYK": "CMYK"},
    "Lab": {"LAB": "LAB"},
}
LEVELS = range(0, 256, 32)  # of each channel, where a profile is compared with sRGB


def to_srgb(im: Image.Image, profile: bytes, name: str) -> Image.Image:
    """A picture in the colours of its ICC profile -> the same picture in sRGB, alpha kept.

    im: 8-bit picture of any mode
    profile: of the file
    name: of the file, for the warning

    A broken profile, and one of another kind of picture, is left out with a warning in the log: the pixels are then
    taken as sRGB, as browsers do. A profile that differs from sRGB by rounding alone leaves each pixel as it is.
    """
    try:
        from PIL import ImageCms

        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        alpha = im.getchannel("A") if im.mode in ("RGBA", "LA", "PA") else None
        bare = im.convert({"LA": "L", "RGBA": "RGB", "PA": "RGB"}[im.mode]) if alpha else im
        mode = MODES.get(space, {}).get(bare.mode)
        if mode is None:
            raise ValueError(f"it is for {space} pictures, this one is {bare.mode}")
        change = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode == "RGB" and _is_identity(change):
            return im
        changed = ImageCms.applyTransform(bare.convert(mode), change)
        if changed is None:  # only with inPlace
            raise ValueError("it changes nothing")
    except Exception as e:  # LittleCMS reports damage by several types; a Pillow without it raises ImportError
        logging.warning("%s: its colour profile cannot be used (%s); the colours are read as sRGB.", name, e)
        return im
    if alpha:
        changed.putalpha(alpha)
    return changed


def _is_identity(change) -> bool:
    """Whether a transform from RGB to RGB moves no channel by more than one step."""
    colours = np.array(list(itertools.product(LEVELS, repeat=3)), np.uint8)[None]
    from PIL import ImageCms

    after = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), change), np.int16)
    return int(np.abs(after - colours).max()) <= 1
