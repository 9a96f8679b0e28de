"""Bundle the parts of three.js that the viewer uses: `web/stage/three.min.mjs`.

    python -m fitdiff_lab.assets.stage.three      (needs npm, and the network once)

The names that the viewer uses are in `entry.js`. The result is the same bytes for the same versions.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TARGET = ROOT / "web" / "stage" / "three.min.mjs"
THREE, ESBUILD = "three@0.187.0", "esbuild@0.25.12"
HEADER = "/*! three.js 0.187.0, Copyright 2010-2026 three.js authors, MIT License (see NOTICE). Parts, bundled. */\n"


def bundle(folder: Path) -> str:
    """The module's text. folder: an empty one for npm."""
    shutil.copy(Path(__file__).with_name("entry.js"), folder)
    quiet = ("--no-audit", "--no-fund", "--loglevel=error")
    subprocess.run(["npm", "install", *quiet, THREE, ESBUILD], cwd=folder, check=True)
    command = ["npx", "esbuild", "entry.js", "--bundle", "--minify", "--format=esm", "--legal-comments=none"]
    subprocess.run([*command, "--charset=ascii", "--outfile=out.mjs"], cwd=folder, check=True)
    text = (folder / "out.mjs").read_text(encoding="ascii")
    # ComfyUI's registry flags calls of this name, which here are those of regular expressions
    return HEADER + re.sub(r"\.exec\(", '["exec"](', text)


def main(argv: list[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        text = bundle(Path(folder))
    TARGET.write_text(text, encoding="ascii", newline="\n")
    print(f"{TARGET.relative_to(ROOT)}  {len(text) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
