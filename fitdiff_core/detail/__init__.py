"""Detail of the skin: of the photo, and of a model of pores and furrows (`mesostructure`).

Photo detail: the photo's own fine detail in the maps, where the photo shows the skin well.

The steps are: unwrap the photo into UV, remove the light, inpaint what is hidden, blend. Low frequencies (tone, large
shadows) come from the diffusion result, high frequencies from the photo. What the photo does not show is inpainted by
the diffusion model around what it does show (as in Relightify, Papantoniou et al. 2023, arXiv 2305.06077).
"""

from .add import PhotoDetail, photo_detail
from .mesostructure import skin_relief
from .unwrapping import Unwrapped, unwrap

__all__ = ["PhotoDetail", "Unwrapped", "photo_detail", "skin_relief", "unwrap"]
