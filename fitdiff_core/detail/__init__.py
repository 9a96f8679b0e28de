"""Detail of the photo, put into the maps where the photo shows it well: unwrap, delight, fill, blend.

The diffusion result is trusted for what is broad (tone, large shadows), the photo for what is fine. What the photo does not
show comes from the diffusion model, inpainted round what it does show (as Relightify, Papantoniou et al. 2023,
arXiv 2305.06077).
"""

from .add import PhotoDetail, photo_detail
from .unwrap import Unwrapped, unwrap

__all__ = ["PhotoDetail", "Unwrapped", "photo_detail", "unwrap"]
