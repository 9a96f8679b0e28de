"""Bake the shipped panoramas: six of npm's `@pmndrs/assets` (CC0), made small, as Radiance .hdr.

    pip install OpenEXR
    python -m fitdiff_lab.assets.stage.panoramas      (needs npm, and the network once)

Each is scaled to 256 x 128 pixels by area, so that its light keeps its energy, and to a mean radiance of `LEVEL`, so
that faces are well exposed in all of them.
"""

from __future__ import annotations

import argparse
import base64
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from fitdiff_core.files import write_atomic
from fitdiff_core.image import LUMINANCE
from fitdiff_core.render.hdr import load_hdr
from fitdiff_core.render.light import panorama_directions, toward
from fitdiff_core.render.panoramas import FOLDER, PANORAMAS

PACKAGE = "@pmndrs/assets@1.7.0"
HEIGHT = 128
LEVEL = 1.0  # radiance of an upright white Lambert surface, mean of those that face 45 degrees left, ahead and right
SIDES = (-45.0, 0.0, 45.0)


def read(archive: Path, name: str, folder: Path) -> torch.Tensor:
    """One panorama of the package: linear `[1, 3, H, W]`."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"package/hdri/{name}.exr.js")
        assert member is not None
        text = member.read().decode()
    found = re.search(r"base64,([A-Za-z0-9+/=]+)", text)
    assert found, name
    path = folder / f"{name}.exr"
    path.write_bytes(base64.b64decode(found[1]))
    return load_hdr(path)


def bake(pixels: torch.Tensor, turn: float) -> torch.Tensor:
    """Small, turned by `turn` degrees to the subject's left, and of the usual brightness."""
    small = F.interpolate(pixels.clamp(min=0), (HEIGHT, 2 * HEIGHT), mode="area")
    small = small.roll(-round(turn / 360 * 2 * HEIGHT), 3)
    direction, solid = panorama_directions(HEIGHT, small)
    yaw = torch.tensor(SIDES).deg2rad()
    cosine = (direction @ toward(yaw, torch.zeros_like(yaw)).T).clamp(min=0) * solid[:, None] / torch.pi
    level = float((small.flatten(2)[0] @ cosine).mean(1) @ torch.tensor(LUMINANCE))
    return small * (LEVEL / max(level, 1e-6))


def encode(pixels: torch.Tensor) -> bytes:
    """Linear `[1, 3, H, W]` -> a run-length coded Radiance file."""
    rgb = pixels[0].permute(1, 2, 0).double().numpy()
    peak = rgb.max(2)
    mantissa, exponent = np.frexp(np.maximum(peak, 1e-32))
    scaled = rgb * (mantissa * 256 / np.maximum(peak, 1e-32))[..., None]
    rgbe = np.concatenate([scaled.clip(0, 255), (exponent + 128)[..., None]], 2).astype(np.uint8)
    rgbe[peak < 1e-32] = 0
    height, width = peak.shape
    body = bytearray()
    for line in rgbe:
        body += bytes([2, 2, width >> 8, width & 255])
        for channel in range(4):
            body += runs(line[:, channel].tobytes())
    return f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode() + bytes(body)


def runs(plane: bytes) -> bytes:
    """One plane of a line: runs of four or more equal bytes, and literals of at most 128."""
    out, at, literal = bytearray(), 0, bytearray()

    def flush() -> None:
        for start in range(0, len(literal), 128):
            piece = literal[start : start + 128]
            out.append(len(piece))
            out.extend(piece)
        literal.clear()

    while at < len(plane):
        end = at
        while end < len(plane) and plane[end] == plane[at] and end - at < 127:
            end += 1
        if end - at >= 4:
            flush()
            out.extend((128 + end - at, plane[at]))
        else:
            literal.extend(plane[at:end])
        at = end
    flush()
    return bytes(out)


def main(argv: list[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = folder.glob("*.tgz")
        for target, (source, turn) in PANORAMAS.items():
            data = encode(bake(read(archive, source, folder), turn))
            write_atomic(FOLDER / f"{target}.hdr", data)
            print(f"{target}.hdr  {len(data) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
