"""Which files of the command line differ from those of another revision.

python -m fitdiff_lab.evaluate.regression REVISION [--case NAME]

Runs the command line of this working tree and of REVISION (a git checkout in a temporary folder) with five fixed seeds
and settings, one thread each, and compares the files byte for byte. `report.json` is compared without its timings. A
refactoring must change nothing. Takes about two minutes.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from fitdiff_core.errors import UserError, command

from ..cli import command_parser

ROOT = Path(__file__).resolve().parents[2]
PHOTO = "samples/eileen_collins.jpg"


def cases(folder: Path) -> dict[str, list[str]]:
    """Name -> arguments of the command line. Writes the second photo, mask and config that they need into `folder`."""
    photo = Image.open(ROOT / PHOTO).convert("RGB")
    mirrored = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((photo.width * 3 // 4, photo.height * 3 // 4))
    mirrored.save(folder / "second.png")
    mask = Image.new("L", photo.size, 255)
    ImageDraw.Draw(mask).rectangle((0, 0, photo.width, photo.height // 5), fill=0)
    mask.save(folder / "mask.png")
    config = {"sampler": "dpmpp_2m", "texture_size": 1024, "variation": 1.0, "cfg_scale": 1.0}
    (folder / "config.json").write_text(json.dumps(config))
    files = ["--format", "glb,obj,ply,usdz", "--map-bits", "16", "--normals", "down", "--unit", "centimetres"]
    detail = ["--photo-detail", "--mask", str(folder / "mask.png"), *files]
    second = str(folder / "second.png")
    return {
        "guided": [PHOTO, "--seed", "0", "--steps", "8"],
        "detail": [PHOTO, "--seed", "1", "--steps", "6", *detail],
        "two_photos": [PHOTO, second, "--seed", "2", "--steps", "6", "--expression", "photo"],
        "invented": ["--seed", "3", "--steps", "12", "--config", str(folder / "config.json")],
        "unguided": [PHOTO, "--seed", "4", "--steps", "12", "--no-guidance", "--no-blendshapes"],
    }


def digests(root: Path, arguments: list[str], out: Path) -> dict[str, str]:
    """File name -> SHA-256 of what the command line of the checkout `root` writes. Raises UserError if it fails."""
    env = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", PYTHONPATH=str(root))
    call = [sys.executable, "-m", "fitdiff_core", *arguments, "--out", str(out)]
    done = subprocess.run(call, cwd=root, env=env, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"The command line of {root} failed: {done.stderr.strip()}")
    found = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.name == "report.json":
            report = json.loads(data)
            del report["seconds"]
            data = json.dumps(report, sort_keys=True).encode()
        found[path.name] = hashlib.sha256(data).hexdigest()
    return found


def changed_files(revision: str, names: list[str] | None = None) -> dict[str, list[str]]:
    """Case -> names of the files that differ, or that only one revision writes. Raises UserError for a bad revision."""
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        git = ["git", "-C", str(ROOT), "worktree"]
        made = subprocess.run([*git, "add", "--detach", str(other), revision], capture_output=True, text=True)
        if made.returncode:
            raise UserError(f"git cannot check out '{revision}': {made.stderr.strip()}")
        try:
            result = {}
            for name, arguments in cases(Path(folder)).items():
                if names and name not in names:
                    continue
                old, new = (
                    digests(root, arguments, Path(folder) / name / str(i)) for i, root in enumerate((other, ROOT))
                )
                result[name] = sorted(f for f in {*old, *new} if old.get(f) != new.get(f))
                print(f"{name}: {len(new)} files, {', '.join(result[name]) or 'none'} changed", flush=True)
            return result
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], capture_output=True)


@command
def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 if nothing differs, 1 if something does."""
    p = command_parser("evaluate.regression", __doc__)
    p.add_argument("revision", help="git revision to compare with")
    p.add_argument("--case", action="append", help="only this case; may be repeated")
    args = p.parse_args(argv)
    return int(any(changed_files(args.revision, args.case).values()))


if __name__ == "__main__":
    sys.exit(main())
