"""Make the shipped checkpoint from two runs.

    python -m fitdiff_lab.train.release --ae runs/ae --denoiser runs/denoiser --out
    fitdiff_core/assets/fitdiff.safetensors

Output: one file with fp16 weights and the record of the training in its metadata. Takes seconds. To add figures,
evaluate the file (fitdiff_lab.evaluate.model) and run the command again with --evaluation results.json.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch
from torch import nn

from fitdiff_core.errors import UserError, command
from fitdiff_core.head import load_head
from fitdiff_core.model.checkpoint import DEFAULT, load_model, save_model

from ..cli import command_parser
from ..dataset.reading import read_json
from .autoencoder import encoder_key, load_autoencoder
from .denoiser import load_denoiser
from .run import load_state


def fingerprint(*modules: nn.Module) -> str:
    """12 hex digits of the weights as a checkpoint stores them (fp16). The metadata do not count."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().to(torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def read_evaluation(path: Path, weights: str) -> dict:
    """Settings, groups and plain figures of a `results.json` of evaluate.model.

    weights: the `fingerprint` that it must have measured; else UserError.
    """
    results = read_json(path, "python -m fitdiff_lab.evaluate.model")
    if results.get("weights") != weights:
        raise UserError(
            f"{path} measured the weights {results.get('weights')}, these are {weights}; evaluate this checkpoint."
        )
    numbers = ("model", "baseline", "best")
    figures = {k: {n: row[n] for n in numbers if n in row} for k, row in results["figures"].items()}
    return {"settings": results["settings"], "figures": figures, "groups": results["groups"]}


def write_release(ae: Path, denoiser: Path, out: Path, head=None, evaluation: Path | None = None) -> dict:
    """Write the checkpoint and load it back.

    ae, denoiser: run folders. out: the file. head: `HeadModel`, default the shipped one.
    evaluation: `results.json` of evaluate.model on these weights.
    Returns the metadata. Raises UserError where the runs do not belong together, or the evaluation is of other weights.
    """
    head = head if head is not None else load_head()
    autoencoder, network = load_autoencoder(ae), load_denoiser(denoiser)
    model, status = network
    ae_status, config = (
        load_state(ae / "state.safetensors")[1],
        read_json(denoiser / "config.json", "python -m fitdiff_lab.train.denoiser"),
    )
    if config["latents_of"][:2] != encoder_key(ae_status):
        raise UserError(
            f"{denoiser} was trained on latents of another autoencoder than {ae}; encode them again and retrain."
        )
    training = {
        "autoencoder": {
            "steps": ae_status["step"],
            "minutes": round(ae_status["seconds"] / 60, 1),
            "psnr": ae_status["psnr"],
            **read_json(ae / "config.json", "python -m fitdiff_lab.train.autoencoder"),
        },
        "denoiser": {
            "steps": status["step"],
            "minutes": round(status["seconds"] / 60, 1),
            "held_out": status["metrics"],
            **config,
        },
    }
    if evaluation is not None:
        training["evaluation"] = read_evaluation(evaluation, fingerprint(autoencoder, model))
    save_model(
        out, autoencoder, model, recognizer=status["recognizer"], atlas_version=head.atlas_version, training=training
    )
    return load_model(out, head=head).metadata


@command
def main(argv: list[str] | None = None) -> None:
    parser = command_parser("train.release", __doc__)
    parser.add_argument("--ae", default="runs/ae", type=Path, help="run folder of the autoencoder (%(default)s)")
    parser.add_argument(
        "--denoiser", default="runs/denoiser", type=Path, help="run folder of the denoiser (%(default)s)"
    )
    parser.add_argument("--out", default=DEFAULT, type=Path, help="file to write (default: the shipped one)")
    parser.add_argument(
        "--evaluation", type=Path, metavar="RESULTS", help="results.json of fitdiff_lab.evaluate.model on these weights"
    )
    args = parser.parse_args(argv)
    metadata = write_release(args.ae, args.denoiser, args.out, evaluation=args.evaluation)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, id {metadata['id']}")


if __name__ == "__main__":
    sys.exit(main())
