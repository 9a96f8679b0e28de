"""Reading photos, writing PNGs, and conversion between sRGB and linear values.

Inside the core, images are float32 `[B, C, H, W]` in 0..1, row 0 at the top. Albedo and radiance are linear. Photos and
files are sRGB (IEC 61966-2-1).
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .colour_profile import to_srgb
from .errors import UserError
from .files import write_atomic
from .progress import advance, in_background

LUMINANCE = (0.2126, 0.7152, 0.0722)  # weights of linear sRGB (IEC 61966-2-1, Rec. 709 primaries)
MAX_SIDE = 2048  # pixels; larger photos are shrunk, because a face needs far less
MIN_SIDE = 48
MAX_PIXELS = 150e6  # decoded at once; JPEGs may have more, because they can be decoded at a fraction of their size
# brands of pictures in the ISO base media file format (ISO/IEC 23008-12) with HEVC inside, and one that AVIF shares
HEIC_BRANDS, SHARED_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}, {b"mif1", b"msf1"}


def srgb_to_linear(x: Tensor) -> Tensor:
    """sRGB 0..1 -> linear 0..1, any shape. Differentiable. Values outside 0..1 are not clipped."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x: Tensor) -> Tensor:
    """Linear 0..1 -> sRGB 0..1, any shape. Differentiable, also at 0. Values outside 0..1 are not clipped."""
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def to_image(x: Tensor) -> Tensor:
    """`[B, C, H, W]` -> ComfyUI's `[B, H, W, C]`, clipped to 0..1, on the CPU."""
    return x.detach().clamp(0, 1).permute(0, 2, 3, 1).contiguous().float().cpu()


def from_image(x: Tensor) -> Tensor:
    """ComfyUI IMAGE `[B, H, W, C]` with 1 to 4 channels, any float type or bytes -> `[B, 3, H, W]`.

    Alpha is composited over white, grey is repeated. Raises UserError for an empty batch, another rank, or NaN.
    """
    if x.ndim != 4 or x.numel() == 0:
        raise UserError(f"The image batch is empty or not [B,H,W,C] (got {tuple(x.shape)}); connect an IMAGE output.")
    x = x.permute(0, 3, 1, 2).float() / (255 if x.dtype == torch.uint8 else 1)
    if not torch.isfinite(x).all():
        raise UserError("The image holds NaN or infinite values; check the node that made it.")
    if x.shape[1] in (2, 4):
        x, alpha = x[:, :-1], x[:, -1:]
        x = x * alpha + (1 - alpha)
    if x.shape[1] == 1:
        x = x.expand(-1, 3, -1, -1)
    if x.shape[1] != 3:
        raise UserError(f"The image has {x.shape[1]} channels; 1, 3 (RGB) or 4 (RGBA) are understood.")
    return x.clamp(0, 1).contiguous()


def load_photo(path: str | os.PathLike) -> Tensor:
    """A photo file -> sRGB `[1, 3, H, W]` in 0..1, upright (EXIF), at most 2048 px on its longer side.

    The ICC profile is applied (see `colour_profile.to_srgb`). Alpha is composited over white. Grey, palette, CMYK and
    16-bit files are converted. HEIC needs the package pillow-heif.
    Raises UserError for a missing, unreadable, tiny or gigantic file.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise UserError(f"No such photo: '{path}'. Give the path of a JPEG, PNG or WebP file.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large size (MAX_PIXELS is the limit here) or of odd metadata
            im = _decode(path)
    except PermissionError as e:
        raise UserError(f"The photo {path} may not be read ({e.strerror}); check its permissions.") from e
    except UserError:
        raise
    except (Image.DecompressionBombError, MemoryError) as e:
        raise UserError(f"The photo {path} is too large; scale it down to {MAX_SIDE} px ({e}).") from e
    except Exception as e:  # Pillow's readers raise many types for damaged files
        # Pillow's own words for a file of no known kind name the Python object that was read
        reason = "no known kind of picture" if isinstance(e, UnidentifiedImageError) else e
        raise UserError(f"Cannot read {path} as an image ({reason}). Save it again as JPEG or PNG.") from e
    profile = im.info.get("icc_profile")
    if im.mode.startswith("I") or im.mode == "F":  # 16-bit and float grey, which Pillow would clip at 255
        a = np.asarray(im, np.float32)
        if not np.isfinite(a).all():
            raise UserError(f"The photo {path} holds NaN or infinite values; save it again as JPEG or PNG.")
        top = 65535.0 if a.max() > 255 else 255.0 if a.max() > 1 else 1.0
        im = Image.fromarray(np.clip(a / top * 255 + 0.5, 0, 255).astype(np.uint8))
    if im.mode == "P" and "transparency" in im.info:
        im = im.convert("RGBA")
    if profile:
        im = to_srgb(im, profile, str(path))
    if im.mode in ("RGBA", "LA", "PA") or "transparency" in im.info:
        im = im.convert("RGBA")
        im = Image.alpha_composite(Image.new("RGBA", im.size, (255,) * 4), im)
    im = im.convert("RGB")
    if min(im.size) < MIN_SIDE:
        raise UserError(f"{path} is only {im.width}x{im.height} px; use a photo of at least {MIN_SIDE} px a side.")
    im.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(im, np.float32) / 255).permute(2, 0, 1)[None].contiguous()


def _decode(path: Path) -> Image.Image:
    """The first picture in the file, upright."""
    if _is_heic(path):
        _register_heic(path)
    # from a file object: given a name, Pillow 13 maps plain TIFFs into memory and loses their EXIF orientation
    with path.open("rb") as file, Image.open(file) as im:
        # a huge JPEG is decoded at a fraction of its size, which also limits memory
        im.draft("RGB", (MAX_SIDE, MAX_SIDE))
        if im.width * im.height > MAX_PIXELS:
            raise UserError(
                f"The photo {path} of {im.width}x{im.height} px is too large; scale it down to {MAX_SIDE} px."
            )
        upright = ImageOps.exif_transpose(im)
        upright.load()
    return upright


def _is_heic(path: Path) -> bool:
    """Whether the bytes, not the name, say that this is a HEIC photo."""
    with path.open("rb") as file:
        start = file.read(256)
    if start[4:8] != b"ftyp":
        return False
    end = int.from_bytes(start[:4], "big")
    brand, others = start[8:12], start[16:end]
    return brand in HEIC_BRANDS or (brand in SHARED_BRANDS and b"avif" not in others)


def _register_heic(path: Path) -> None:
    """Let Pillow read HEIC. Raises UserError where pillow-heif is not installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise UserError(
            f"{path} is a HEIC photo. To read it, install pillow-heif (`pip install pillow-heif`), or export it "
            "as JPEG."
        ) from None
    register_heif_opener()


def encode_png(image: Tensor, bits: int = 8) -> bytes:
    """`[C, H, W]` or `[1, C, H, W]` in 0..1, C = 1, 3 or 4 -> PNG bytes. bits: 8 or 16 per channel.

    Values are stored as they are. Raises UserError for other bits.
    """
    return encode_pngs({"": image}, bits)[""]


def encode_pngs(images: Mapping[str, Tensor], bits: int = 8) -> dict[str, bytes]:
    """`encode_png` of several images by name, side by side on as many cores as torch uses."""
    if bits not in (8, 16):
        raise UserError(f"PNG bit depth must be 8 or 16, not {bits}.")
    found = (x.detach().float().cpu() for x in images.values())
    values = [(x[0] if x.ndim == 4 else x).clamp(0, 1).permute(1, 2, 0).numpy() for x in found]

    def compress() -> list[bytes]:  # zlib works without Python's lock
        with ThreadPoolExecutor(max(1, min(len(values), torch.get_num_threads()))) as pool:
            return list(pool.map(lambda x: _png(x, bits), values))

    data = in_background(compress)
    advance(0.3 * len(values))  # of a file with three maps
    return dict(zip(images, data, strict=True))


def _png(values: np.ndarray, bits: int) -> bytes:
    """`[H, W, C]` in 0..1 -> PNG bytes."""
    if bits == 8:
        buffer = io.BytesIO()
        a = (values * 255 + 0.5).astype(np.uint8)
        Image.fromarray(a[..., 0] if a.shape[2] == 1 else a).save(buffer, "PNG", compress_level=4)
        return buffer.getvalue()
    a = (values * 65535 + 0.5).astype(">u2")  # Pillow cannot write 16-bit RGB
    rows = b"".join(b"\0" + row.tobytes() for row in a)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", a.shape[1], a.shape[0], 16, 2 if a.shape[2] == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 6)) + chunk(b"IEND", b"")


def save_png(path: str | os.PathLike, image: Tensor, bits: int = 8) -> Path:
    """Write `image` as PNG (see `encode_png`) as `write_atomic`; returns the path."""
    return write_atomic(path, encode_png(image, bits))
