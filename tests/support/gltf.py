"""Reading GLB files back: a reader of its own, from the glTF 2.0 specification, and Khronos' validator."""

import functools
import io
import json
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.paths import ROOT

VALIDATE = Path(__file__).with_name("gltf_validate.mjs")


class Glb:
    def __init__(self, path):
        data = Path(path).read_bytes()
        magic, version, size = struct.unpack_from("<4sII", data)
        assert (magic, version, size) == (b"glTF", 2, len(data))
        length, kind = struct.unpack_from("<I4s", data, 12)
        assert kind == b"JSON" and length % 4 == 0
        self.json = json.loads(data[20 : 20 + length])
        length2, kind = struct.unpack_from("<I4s", data, 20 + length)
        assert kind == b"BIN\0" and length2 % 4 == 0
        self.binary = data[28 + length :]
        assert len(self.binary) == length2

    def view(self, i):
        v = self.json["bufferViews"][i]
        return self.binary[v["byteOffset"] : v["byteOffset"] + v["byteLength"]]

    def accessor(self, i):
        a = self.json["accessors"][i]
        dtypes = {5126: "<f4", 5121: "u1", 5123: "<u2", 5125: "<u4"}
        dtype, shape = (
            dtypes[a["componentType"]],
            {"SCALAR": [], "VEC2": [2], "VEC3": [3], "VEC4": [4], "MAT4": [16]}[a["type"]],
        )
        if "bufferView" in a:
            return np.frombuffer(self.view(a["bufferView"]), dtype).reshape(a["count"], *shape)
        values = np.zeros((a["count"], *shape), dtype)
        if sparse := a.get("sparse"):
            rows = np.frombuffer(self.view(sparse["indices"]["bufferView"]), dtypes[sparse["indices"]["componentType"]])
            values[rows] = np.frombuffer(self.view(sparse["values"]["bufferView"]), dtype).reshape(
                sparse["count"], *shape
            )
        return values

    def primitive(self, mesh):
        (p,) = self.json["meshes"][mesh]["primitives"]
        return {k: self.accessor(i) for k, i in p["attributes"].items()}, self.accessor(p["indices"]).reshape(-1, 3)

    def targets(self, mesh):
        """Morph targets by name: `{POSITION, NORMAL}` arrays."""
        (p,) = self.json["meshes"][mesh]["primitives"]
        names = self.json["meshes"][mesh]["extras"]["targetNames"]
        return {n: {k: self.accessor(i) for k, i in t.items()} for n, t in zip(names, p["targets"], strict=True)}

    def texture(self, i):
        image = self.json["images"][self.json["textures"][i]["source"]]
        return np.asarray(Image.open(io.BytesIO(self.view(image["bufferView"])))) / 255.0


@functools.cache
def validator_modules():
    """A node_modules folder with Khronos' validator; installed when there is none."""
    for place in (os.environ.get("FITDIFF_GLTF_VALIDATOR"), ROOT / ".comfy-host" / "node_modules"):
        if place and (Path(place) / "gltf-validator").is_dir():
            return Path(place)
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("Khronos' glTF validator needs node and npm")
    folder = Path(tempfile.mkdtemp(prefix="validator"))
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "gltf-validator@2.0.0-dev.3.10"],
        check=True,
        capture_output=True,
        text=True,
    )
    return folder / "node_modules"


def validate(path):
    """The validator's report on a file."""
    done = subprocess.run(
        ["node", str(VALIDATE), str(validator_modules()), str(path)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def clean(report):
    """Nothing found, not even a hint."""
    issues = report["issues"]
    total = sum(issues[k] for k in ("numErrors", "numWarnings", "numInfos", "numHints"))
    assert total == 0, issues["messages"]
    return True
