"""The lighter mesh: a third of the triangles, no cracks, and the full mesh's UVs, blendshapes and joints."""

import numpy as np
import pytest
import torch

from fitdiff_core.avatar import Avatar
from fitdiff_core.cli import main
from fitdiff_core.export import ExportOptions, write_avatar
from fitdiff_core.export.light_mesh import components, control_faces, lighter, lighter_strips
from fitdiff_core.export.mesh import split_parts
from fitdiff_core.hair.cards import _strip
from fitdiff_core.hair.presets import PRESETS
from fitdiff_core.head.joints import border
from fitdiff_core.maps import TextureMaps
from tests.support.gltf import Glb, clean, validate


@pytest.fixture(scope="module")
def avatar(head):
    shape = 0.5 * torch.randn(1, head.n_identity, generator=torch.Generator().manual_seed(3))
    flat = torch.zeros(1, 3, 8, 8)
    maps = TextureMaps(flat + 0.3, flat + 0.4, flat + torch.tensor([0, 0, 1.0]).view(3, 1, 1))
    return Avatar(head, shape, maps, (PRESETS["crop"] if "crop" in PRESETS else PRESETS["bob"],))


@pytest.fixture(scope="module")
def files(avatar, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lod")
    return [write_avatar(folder / f"{light}.glb", avatar, ExportOptions(light=light), None) for light in (False, True)]


def triangles(glb):
    return sum(len(glb.primitive(i)[1]) for i in range(len(glb.json["meshes"])))


def open_edges(faces):
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, count = np.unique(np.sort(edges, 1), axis=0, return_counts=True)
    return int((count == 1).sum()), int(count.max())


def test_a_third_of_the_triangles_and_all_the_rest(files):
    full, light = (Glb(path) for path in files)
    assert triangles(light) <= 0.36 * triangles(full)
    assert clean(validate(files[1])) and files[1].stat().st_size < 0.6 * files[0].stat().st_size
    assert [m["name"] for m in light.json["meshes"]] == [m["name"] for m in full.json["meshes"]]
    for i, mesh in enumerate(light.json["meshes"]):
        assert mesh.get("extras") == full.json["meshes"][i].get("extras")
        (few, faces), (many, _) = light.primitive(i), full.primitive(i)
        assert set(few) == set(many) and faces.max() == len(few["POSITION"]) - 1
        # each vertex is one of the full mesh, with its UV
        of_full = {row.tobytes() for row in np.concatenate([many["POSITION"], many["TEXCOORD_0"]], 1)}
        assert all(row.tobytes() in of_full for row in np.concatenate([few["POSITION"], few["TEXCOORD_0"]], 1))
    n = len(light.primitive(0)[0]["POSITION"])
    first = next(k for k in range(n) if not np.array_equal(*(g.primitive(0)[0]["POSITION"][k] for g in (light, full))))
    for name, few in light.targets(0).items():
        np.testing.assert_array_equal(few["POSITION"][:first], full.targets(0)[name]["POSITION"][:first])


def test_the_skin_has_no_cracks_and_faces_outwards(avatar, head):
    skin = split_parts(avatar)[0]
    light = lighter(skin, avatar.whole)
    own = light.indices[(light.rows[light.indices] < head.n_control).all(1)]
    ring = int((border(head) < head.n_control).sum())
    assert len(own) == 2 * len(control_faces(head))
    full = skin.indices[(skin.rows[skin.indices] < head.teeth_rows.start).all(1)]
    # the neck's border and no other edge is open, twice as many in the full mesh
    assert open_edges(own) == (ring, 2) and open_edges(full) == (2 * ring, 2)
    a, b, c = (light.positions[own[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    inward = (normal * light.normals[own].sum(1)).sum(1) < 0
    assert inward.mean() < 0.005
    area = np.linalg.norm(normal, axis=1).sum()
    d, e, f = (skin.positions[full[:, k]] for k in range(3))
    assert abs(area / np.linalg.norm(np.cross(e - d, f - d), axis=1).sum() - 1) < 0.02


def test_strips_keep_their_ends_and_their_faces():
    for faces in (_strip(4, 7, 2), _strip(3, 8, 6)):
        count = int(faces.max()) + 1
        light = lighter_strips(faces, count)
        assert len(light) <= 0.5 * len(faces)
        before, after = components(faces, count), components(light, count)
        assert set(before[light[:, 0]]) == set(before) and len(set(after[light[:, 0]])) == len(set(before))
        ends = np.flatnonzero(np.diff(before, append=count))  # the last vertex of each
        assert np.isin(ends, light).all() and np.isin(np.unique(before), light).all()
        flat = np.stack([np.arange(count) % 2, np.arange(count) // 2, np.zeros(count)], 1)
        if int(np.ptp(faces[0])) == 2:
            turn = [
                np.cross(flat[t[:, 1]] - flat[t[:, 0]], flat[t[:, 2]] - flat[t[:, 0]])[:, 2] for t in (faces, light)
            ]
            assert np.sign(turn[0][0]) == np.sign(turn[1]).min() == np.sign(turn[1]).max()


def test_the_command_line_writes_both(avatar, tmp_path):
    from fitdiff_core.avatar_file import save_avatar

    saved = save_avatar(tmp_path / "a.safetensors", avatar.with_hair(None))
    assert main([str(saved), "--out", str(tmp_path / "out"), "--lod", "both", "--hair", "none"]) in (0, None)
    sizes = [(tmp_path / "out" / name).stat().st_size for name in ("avatar.glb", "avatar_light.glb")]
    assert sizes[1] < 0.6 * sizes[0]
