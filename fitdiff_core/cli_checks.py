"""Checks of command-line arguments: what cannot work is said before the sampling instead of after it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .errors import UserError

LIGHT = "studio"  # of the preview where nothing else is asked for


def is_avatar(path: str) -> bool:
    """Whether an argument names an avatar file in place of a photo."""
    return path.lower().endswith(".safetensors")


def check_photo_options(args: argparse.Namespace) -> None:
    """Set the default of --photo-detail. Raises UserError for options that do not fit the photos."""
    if any(map(is_avatar, args.photo)):
        if len(args.photo) > 1 or args.photo_detail or args.mask or args.no_guidance:
            raise UserError(
                "An avatar file stands alone: give it without photos, --photo-detail, --mask and --no-guidance."
            )
        args.photo_detail = 0.0
        return
    fits = bool(args.photo) and not args.no_guidance
    if args.photo_detail is None:
        args.photo_detail = 1.0 if fits else 0.0
    if not 0 <= args.photo_detail <= 1:
        raise UserError(f"--photo-detail must be from 0 to 1 (got {args.photo_detail}).")
    if args.photo_detail and not fits:
        raise UserError("--photo-detail needs a photo that the head is fitted to: give one, without --no-guidance.")
    if args.mask and (len(args.mask) != len(args.photo) or args.no_guidance):
        raise UserError(
            f"--mask is for photos that the head is fitted to, one for each: {len(args.mask)} masks, "
            f"{len(args.photo)} photos."
        )


def check_light(name: str) -> None:
    """Raise UserError for a light that does not exist."""
    if name == LIGHT:  # no import of torch, which takes a second, before the clock runs
        return
    from .render.panoramas import NAMES

    if name not in NAMES:
        raise UserError(f"Unknown --light {name}; choose one of {', '.join(NAMES)}.")


def check_hair(style: str) -> None:
    """Raise UserError for a hair style that does not exist, before the sampling instead of after it."""
    if style in ("auto", "none"):
        return
    from .hair.presets import PRESETS

    if style not in PRESETS:
        raise UserError(f"Unknown --hair {style}; choose auto, none, or one of {', '.join(PRESETS)}.")


def check_out(out: Path) -> None:
    """Raise UserError where files could not be written, before the sampling instead of after it."""
    nearest = next((p for p in (out, *out.absolute().parents) if p.exists()), out)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(
            f"Cannot write into --out {out}: {nearest} is not a folder with write permission. Choose another."
        )


def check_device(device: str) -> None:
    """Raise UserError for a device that torch cannot use here."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as e:
        raise UserError(
            f"The device '{device}' cannot be used here ({str(e).splitlines()[0]}); try --device cpu."
        ) from e


def check_relief(strength: float) -> None:
    """Raise UserError for a strength of the skin relief out of range, before anything is loaded."""
    if not 0 <= strength <= 3:  # also NaN
        raise UserError(f"--skin-relief must be from 0 to 3 (got {strength}).")
