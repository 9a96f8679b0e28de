"""The arguments of `fitdiff PHOTO [PHOTO ...]`."""

from __future__ import annotations

import argparse

from .cli_checks import LIGHT, check_hair, check_light, check_photo_options, check_relief
from .errors import UserError

DESCRIPTION = "Photos of one person become a folder with a GLB head, its maps and a preview."


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line arguments. Raises UserError for values and combinations that cannot work."""
    p = argparse.ArgumentParser("fitdiff", description=DESCRIPTION, allow_abbrev=False)
    p.add_argument(
        "photo",
        nargs="*",
        help="one or more photos of one person; without a photo, a new person is sampled. Or one .safetensors file of "
        "--save-avatar: that head is taken, and nothing is sampled",
    )
    p.add_argument(
        "--each",
        action="store_true",
        help="make a head of each photo, in a folder of its own below --out; folders of photos may be given. What is "
        "there already is left alone, and a photo that fails is named at the end",
    )
    p.add_argument("--out", default="fitdiff_out", help="folder to write (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="the same seed gives the same head (default: %(default)s)")
    p.add_argument("--steps", type=int, help="diffusion steps (default: 20)")
    p.add_argument("--no-guidance", action="store_true", help="sample from the identity alone: faster, less alike")
    p.add_argument(
        "--photo-detail",
        nargs="?",
        const=1.0,
        type=float,
        metavar="STRENGTH",
        help="add the (first) photo's own detail where it shows the skin, 0 to 1 (default: 1 for a guided photo)",
    )
    p.add_argument(
        "--no-photo-detail",
        dest="photo_detail",
        action="store_const",
        const=0.0,
        help="pure FitDiff: only what the model samples",
    )
    p.add_argument(
        "--skin-relief",
        default=1.0,
        type=float,
        metavar="STRENGTH",
        help="pores and fine lines in the maps, 0 (off) to 3 (default: 1); a texture_size of 1024 or more shows them",
    )
    p.add_argument(
        "--hair",
        default="auto",
        metavar="STYLE",
        help="auto (as in the first photo; without a photo: what suits the face), none, or the name of a style such as "
        "bob, side_part, afro (default: %(default)s)",
    )
    p.add_argument(
        "--mask",
        action="append",
        metavar="FILE",
        help="picture of the photo's size, white where the photo may be used (default: hair and hands are found); with "
        "several photos one for each",
    )
    p.add_argument(
        "--face",
        metavar="WHICH",
        help="which face, where a photo shows several: a number from 0 (largest first), left-to-right (the leftmost), "
        "or left-to-right:N (default: largest)",
    )
    p.add_argument("--device", default="cpu", help="cpu, cuda, mps, ... (default: %(default)s)")
    add_file_options(p.add_argument_group("files"))
    p.add_argument("--config", help="JSON file with further settings; see docs/cli.md")
    args = p.parse_intermixed_args(argv)  # photos before and after the flags
    if args.each and (args.mask or not args.photo):
        raise UserError("--each takes photos, or folders of photos, and no --mask.")
    check_photo_options(args)
    check_relief(args.skin_relief)
    check_hair(args.hair)
    check_light(args.light)
    if args.seed < 0:
        raise UserError(f"--seed must not be negative (got {args.seed}).")
    return args


def add_file_options(group) -> None:
    """The options of the files that are written."""
    group.add_argument(
        "--format", default="glb", metavar="F,F", help="mesh files: glb, obj, ply, usdz (default: %(default)s)"
    )
    group.add_argument(
        "--save-avatar",
        action="store_true",
        help="also write the head as head.avatar.safetensors, which can be given in place of a photo later",
    )
    group.add_argument(
        "--viewer", action="store_true", help="also write viewer.html, a page that shows the head without any network"
    )
    group.add_argument(
        "--light",
        default=LIGHT,
        metavar="NAME",
        help="light of the third picture in render.png: a preset such as rim or sunset, or a panorama such as forest "
        "or dusk (default: %(default)s)",
    )
    group.add_argument("--expression", choices=("neutral", "photo"), default="neutral", help="photo: as in the photo")
    group.add_argument("--no-blendshapes", action="store_true", help="a GLB without the 52 ARKit morph targets")
    group.add_argument("--no-rig", action="store_true", help="a GLB without joints and skin")
    group.add_argument("--visemes", action="store_true", help="a GLB with 15 visemes and 5 common shapes after the 52")
    lod = "light: a GLB with a third of the triangles; both: also avatar_light.glb (default: %(default)s)"
    group.add_argument("--lod", choices=("full", "light", "both"), default="full", help=lod)
    group.add_argument(
        "--normals", choices=("up", "down"), default="up", help="green of the normal map; down for Unreal"
    )
    group.add_argument(
        "--unit",
        choices=("metres", "centimetres"),
        default="metres",
        help="of obj, ply and usdz; a GLB is in metres",
    )
    group.add_argument("--map-bits", type=int, choices=(8, 16), default=8, help="bits per channel of the maps' PNGs")
