"""Make the shipped checkpoint of two runs:
python -m fitdiff_core.train.release --ae runs/ae --denoiser runs/denoiser --out fitdiff_core/assets/fitdiff.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..checkpoint import DEFAULT, load_model, save_model
from ..errors import UserError
from ..head import load_head
from .autoencoder import encoder_key, load_autoencoder
from .common import load_state
from .dataset import read_json
from .denoiser import load_denoiser


def release(ae: Path, denoiser: Path, out: Path, head=None) -> dict:
    """Write the checkpoint and load it back. Returns its metadata; UserError where the runs do not belong together."""
    head = head if head is not None else load_head()
    autoencoder, network = load_autoencoder(ae), load_denoiser(denoiser)
    model, status = network
    ae_status, config = load_state(ae / "state.safetensors")[1], read_json(denoiser / "config.json", "train.denoiser")
    if config["latents_of"][:2] != encoder_key(ae_status):
        raise UserError(f"{denoiser} was trained on latents of another autoencoder than {ae}; encode them again and retrain.")
    training = {
        "autoencoder": {"steps": ae_status["step"], "minutes": round(ae_status["seconds"] / 60, 1),
                        "psnr": ae_status["psnr"], **read_json(ae / "config.json", "train.autoencoder")},
        "denoiser": {"steps": status["step"], "minutes": round(status["seconds"] / 60, 1), "held_out": status["metrics"],
                     **config},
    }
    save_model(out, autoencoder, model, recognizer=status["recognizer"], atlas_version=head.atlas_version, training=training)
    return load_model(out, head=head).metadata


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ae", default="runs/ae", type=Path)
    parser.add_argument("--denoiser", default="runs/denoiser", type=Path)
    parser.add_argument("--out", default=DEFAULT, type=Path)
    args = parser.parse_args(argv)
    metadata = release(args.ae, args.denoiser, args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, id {metadata['id']}")


if __name__ == "__main__":
    main()
