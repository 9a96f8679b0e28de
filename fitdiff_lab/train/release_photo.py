"""Make the file of the networks that read a photo, from two runs.

    python -m fitdiff_lab.train.release_photo --delighter runs/delighter --hair runs/hair_segmenter

Output: one file with fp16 weights and the record of the training in its metadata.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from fitdiff_core.errors import UserError, command
from fitdiff_core.files import atomic_path
from fitdiff_core.photo_networks import ASSET, FORMAT

from ..cli import command_parser

FILES = {"delighter": "delighter.safetensors", "hair": "hair_segmenter.safetensors"}


def write_release(runs: dict[str, Path], out: Path) -> dict[str, str]:
    """runs: {part: run folder}. Returns the metadata. Raises UserError where a run has not ended."""
    tensors, architecture, training = {}, {}, {}
    for part, folder in runs.items():
        path = folder / FILES[part]
        if not path.is_file():
            raise UserError(f"No {path.name} in {folder}; let the training end first.")
        with safe_open(str(path), "pt") as f:
            metadata = f.metadata()
            architecture[part] = json.loads(metadata["architecture"])
            training[part] = json.loads(metadata["training"])
            tensors |= {f"{part}.{name}": f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 (not a dict)
    metadata = {"format": FORMAT, "architecture": json.dumps(architecture), "training": json.dumps(training)}
    with atomic_path(out) as path:
        save_file(tensors, path, metadata)
    return metadata


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("train.release_photo", __doc__)
    for part in FILES:
        p.add_argument(f"--{part}", type=Path, required=True, help="run folder")
    p.add_argument("--out", type=Path, default=ASSET, help="(%(default)s)")
    a = p.parse_args(argv)
    print(write_release({part: getattr(a, part) for part in FILES}, a.out)["training"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
