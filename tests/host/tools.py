"""Opens exported files in every program that is here and prints a table of what each said.

    python -m tests.host.tools [FILE ...]      (or `make tools`, which installs the programs first)

Without files it makes a head's GLB, OBJ, PLY and USDZ, and a GLB with hair. Exit status 1 if a program failed.
Looked for: Khronos' validator and three.js (newest, r145) in `.comfy-host`; Babylon.js, trimesh, pygltflib, OpenUSD
and Blender in `.comfy-host/tools`; assimp, blender and godot3-server on the path.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .install import HOST, ROOT, TOOLS

SECONDS = 240
RANDOM_HEAD = ("--steps", "4", "--seed", "3")
PYTHON = {
    "trimesh": """
import trimesh
scene = trimesh.load_scene(file)
print(trimesh.__version__, {k: len(g.faces) for k, g in scene.geometry.items()})
""",
    "pygltflib": """
import importlib.metadata, pygltflib
g = pygltflib.GLTF2().load(file)
targets = {m.name: len(m.primitives[0].targets) for m in g.meshes}
print(importlib.metadata.version("pygltflib"), targets)
""",
    "OpenUSD": """
from pxr import Usd, UsdValidation
found = UsdValidation.ValidationContext(UsdValidation.ValidationRegistry().GetOrLoadAllValidators()).Validate(
    Usd.Stage.Open(file))
print(Usd.GetVersion(), [e.GetMessage() for e in found] or "nothing found")
""",
}
BABYLON = """
const fs = require("fs"), B = require("babylonjs"), { GLTFFileLoader } = require("babylonjs-loaders");
B.SceneLoader.RegisterPlugin(new GLTFFileLoader());
(async () => {
    const scene = new B.Scene(new B.NullEngine()), file = fs.readFileSync(process.argv[2]);
    const url = "data:model/gltf-binary;base64," + file.toString("base64");
    await B.SceneLoader.AppendAsync("", url, scene, null, ".glb");
    const meshes = scene.meshes.filter((m) => m.getTotalVertices());
    console.log(B.Engine.Version, JSON.stringify(meshes.map((m) => [m.name, m.morphTargetManager?.numTargets ?? 0])));
    process.exit(0);
})().catch((e) => { console.log("FAILED", String(e.message).slice(0, 200)); process.exit(1); });
"""
GODOT = """extends SceneTree
func walk(n, out):
    if n is MeshInstance:
        out.append([n.name, n.mesh.get_blend_shape_count()])
    for c in n.get_children():
        walk(c, out)
func _init():
    var state = load("res://a.glb")
    var out = []
    if state: walk(state.instance(), out)
    print("GODOT ", Engine.get_version_info().string, " ", out)
    quit()
"""


def run(command: list, **kw) -> str:
    """Output of a command: the last line that says something, or how it failed."""
    try:
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=SECONDS, **kw)
    except subprocess.TimeoutExpired:
        return f"FAILED: no answer in {SECONDS} s"
    lines = [line for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    last = lines[-1][:300] if lines else ""
    return f"FAILED ({done.returncode}): {last}" if done.returncode else last


def modules(name: str) -> Path | None:
    """The node_modules folder that has a package."""
    for place in (TOOLS / "node_modules", HOST / "node_modules"):
        if (place / name).is_dir():
            return place
    return None


def python(name: str, file: Path) -> str | None:
    for interpreter in (TOOLS / "venv" / "bin" / "python", Path(sys.executable)):
        if not interpreter.exists():
            continue
        said = run([interpreter, "-c", f"file = {str(file)!r}\n{PYTHON[name]}"])
        if "No module named" not in said:
            return said
    return None


def validator(file: Path) -> str | None:
    if not (place := modules("gltf-validator")):
        return None
    script = Path(__file__).parents[1] / "support" / "gltf_validate.mjs"
    done = subprocess.run(["node", script, place, file], capture_output=True, text=True, timeout=SECONDS)
    report = json.loads(done.stdout)
    counts = {k: v for k, v in report["issues"].items() if k.startswith("num") and v}
    return f"{report['validatorVersion']} {counts or 'nothing found'}"


def assimp(file: Path) -> str | None:
    if not shutil.which("assimp"):
        return None
    done = subprocess.run(["assimp", "info", file, "--raw"], capture_output=True, text=True, timeout=SECONDS)
    version = run(["sh", "-c", "assimp version | grep -i version"])
    found = dict(re.findall(r"^(Meshes|Vertices|Faces|Materials):\s+(\d+)", done.stdout, re.M))
    return f"{version}: {found or 'FAILED ' + (done.stdout + done.stderr).strip()[-200:]}"


def three(name: str, file: Path) -> str | None:
    from . import three as viewer

    place = modules(name)
    if not place or not viewer.installed(place / name):
        return None
    version = json.loads((place / name / "package.json").read_text())["version"]
    try:
        with viewer.open_viewer(file, 64, place / name) as page:
            return f"{version} { {k: len(v['targets']) for k, v in page.about().items()} } {page.problems or ''}"
    except Exception as e:  # whatever the browser says is the answer
        return f"{version} FAILED {str(e)[:300]}"


def babylon(file: Path) -> str | None:
    if not (place := modules("babylonjs")):
        return None
    env = {**os.environ, "NODE_PATH": str(place)}
    return run(["node", "-e", "globalThis.XMLHttpRequest ??= class {};\n" + BABYLON, "-", file], env=env)


def blender(file: Path) -> str | None:
    from .blender import blender as executable
    from .blender import render

    if (command := executable()) is None:
        return None
    ask = ["-c", "import bpy; print(bpy.app.version_string)"]
    version = run([*command, *ask] if len(command) == 1 else ["sh", "-c", f"{command[0]} --version | head -1"])
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = render(file, Path(folder) / "a.png", 32, 1, {"jawOpen": 1.0})
        except RuntimeError as e:
            return f"FAILED {str(e)[-300:]}"
    return f"{version} { {name: len(mesh['keys']) for name, mesh in report.items()} }"


def godot(file: Path) -> str | None:
    if not (name := shutil.which("godot3-server")):  # runs without a display
        return None
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(file, Path(folder) / "a.glb")
        (Path(folder) / "project.godot").write_text("config_version=4\n")
        (Path(folder) / "a.gd").write_text(GODOT)
        env = {**os.environ, "HOME": folder}
        imported = run([name, "--editor", "--quit", "--path", folder], env=env)
        said = run(["sh", "-c", f"{name} --path {folder} -s a.gd 2>&1 | grep GODOT"], env=env)
        return said or f"FAILED {imported}"


def answers(file: Path) -> Iterator[tuple[str, str]]:
    """(program, what it said) of a file; "not here" for those that are not installed."""
    kind = file.suffix
    asked = []
    if kind == ".glb":
        asked = [
            ("glTF validator", validator),
            ("three.js", lambda f: three("three", f)),
            ("three.js r145", lambda f: three("three-r145", f)),
            ("Babylon.js", babylon),
            ("pygltflib", lambda f: python("pygltflib", f)),
            ("Blender", blender),
            ("Godot", godot),
        ]
    if kind in (".glb", ".obj", ".ply"):
        asked += [("assimp", assimp), ("trimesh", lambda f: python("trimesh", f))]
    if kind == ".usdz":
        asked += [("OpenUSD", lambda f: python("OpenUSD", f))]
    for name, ask in asked:
        yield name, ask(file) or "not here"


def examples(folder: Path) -> list[Path]:
    """A new person's head in each format, and with hair as a GLB."""
    for out, more in (("plain", ("--format", "glb,obj,ply,usdz")), ("hair", ("--hair", "bob"))):
        command = [sys.executable, "-m", "fitdiff_core", *RANDOM_HEAD, *more, "--out", str(folder / out)]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return [
        *(folder / "plain" / f"avatar.{kind}" for kind in ("glb", "obj", "ply", "usdz")),
        folder / "hair/avatar.glb",
    ]


def main(files: list[Path]) -> int:
    """How many programs failed."""
    failed = 0
    print("| file | program | what it said |\n|---|---|---|")
    for file in files:
        for name, said in answers(file.resolve()):
            failed += "FAILED" in said
            print(f"| {file.parent.name}/{file.name} | {name} | {said.replace('|', ' ')} |", flush=True)
    return failed


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(list(map(Path, sys.argv[1:])) or examples(Path(made))) > 0)
