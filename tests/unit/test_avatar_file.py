"""Avatar files: what is loaded is what was saved, and damaged files are refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

from fitdiff_core.avatar import Avatar
from fitdiff_core.avatar_file import FORMAT, load_avatar, save_avatar
from fitdiff_core.errors import UserError
from fitdiff_core.hair.presets import PRESETS
from fitdiff_core.maps import TextureMaps
from fitdiff_core.pipeline import render_avatar
from fitdiff_core.render import Light
from fitdiff_core.scene import Scene
from tests.support import mutations

LIMITS = {"ValueError", "KeyError"}


def heads(head, count=1, size=16, **kw) -> Avatar:
    r = torch.Generator().manual_seed(0)
    maps = TextureMaps.from_stack(torch.rand(count, 9, size, size, generator=r))
    return Avatar(head, torch.randn(count, head.n_identity, generator=r), maps, **kw)


def tensors_of(scene: Scene) -> list[torch.Tensor]:
    return [*vars(scene.camera).values(), scene.light.sh, scene.light.direction, scene.expression, scene.gaze]


def test_the_loaded_head_is_the_saved_one(head, tmp_path):
    style = PRESETS["bob"].with_(seed=3, dye=(0.2, 0.1, 0.4))
    avatar = heads(head, 2, hair=(style, None))
    scene = replace(Scene.portrait(2, yaw=20), gaze=torch.tensor([[0.1, 0.2]]), size=(96, 128))
    scene.light.shadows = True
    found, its_scene = load_avatar(save_avatar(tmp_path / "a.safetensors", avatar, scene), head)
    assert torch.equal(found.shape, avatar.shape) and torch.equal(found.maps.stack(), avatar.maps.stack())
    assert found.hair == avatar.hair
    assert all(torch.equal(a, b) for a, b in zip(tensors_of(its_scene), tensors_of(scene), strict=True))
    assert its_scene.size == (96, 128) and its_scene.light.shadows and its_scene.crop is None
    one, two = (render_avatar(a[1], scene[0], 48)[0] for a in (avatar, found))
    assert torch.equal(one, two)


def test_a_scene_without_a_lamp(head, tmp_path):
    """Photos in soft light have none."""
    scene = replace(Scene.portrait(1), light=Light.ambient(1))
    assert scene.light.direction.shape[1] == 0
    found = load_avatar(save_avatar(tmp_path / "a.safetensors", heads(head, 1), scene), head)[1]
    assert found.light.color.shape == (1, 0, 3)


def test_a_head_alone(head, tmp_path):
    found, scene = load_avatar(save_avatar(tmp_path / "a.safetensors", heads(head)), head)
    assert scene is None and found.hair is None


def test_bad_values_are_not_saved(head, tmp_path):
    avatar = heads(head)
    avatar.shape[0, 3] = float("nan")
    with pytest.raises(UserError, match="shape holds NaN"):
        save_avatar(tmp_path / "a.safetensors", avatar)
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_kind(head, tmp_path):
    path = tmp_path / "a.safetensors"
    for data, says in ((b"", "cut short"), (save({"x": torch.zeros(1)}), "no avatar file")):
        path.write_bytes(data)
        with pytest.raises(UserError, match=says):
            load_avatar(path, head)
    with pytest.raises(UserError, match="No avatar file"):
        load_avatar(tmp_path / "none.safetensors", head)


def test_a_head_of_another_release(head, tmp_path):
    path = save_avatar(tmp_path / "a.safetensors", heads(head))
    header, body = mutations.split(path.read_bytes())
    described = json.loads(header["__metadata__"]["avatar"])
    described["atlas_version"] = "0"
    path.write_bytes(
        mutations.joined(header | {"__metadata__": {"format": FORMAT, "avatar": json.dumps(described)}}, body)
    )
    with pytest.raises(UserError, match="atlas '0'"):
        load_avatar(path, head)


@pytest.mark.parametrize(
    "name, value",
    [
        ("shape", torch.full((1, 120), float("inf"))),
        ("diffuse", torch.full((1, 3, 16, 16), 1.5)),
        ("specular", torch.zeros(1, 3, 16, 8)),
        ("normal", torch.zeros(1, 2, 16, 16)),
        ("scene.direction", torch.zeros(1, 2, 3)),
        ("scene.focal", torch.zeros(1)),
        ("scene.expression", torch.zeros(1, 51)),
        ("scene.gaze", torch.zeros(0, 2)),
    ],
)
def test_a_tensor_that_cannot_be(head, tmp_path, name, value):
    path = save_avatar(tmp_path / "a.safetensors", heads(head), Scene.portrait())
    metadata = mutations.split(path.read_bytes())[0]["__metadata__"]
    path.write_bytes(save(load(path.read_bytes()) | {name: value}, metadata))
    with pytest.raises(UserError, match="damaged"):
        load_avatar(path, head)


def test_damaged_files_are_read_or_refused(head, tmp_path):
    path = save_avatar(tmp_path / "a.safetensors", heads(head, hair=(PRESETS["bob"],)), Scene.portrait())
    whole = path.read_bytes()
    header, body = mutations.split(whole)
    described = json.loads(header["__metadata__"]["avatar"])
    texts = [*map(json.dumps, mutations.of_json(described, 80, 0)), "[" * 100_000, "{", ""]
    values = [{"format": FORMAT, "avatar": text} for text in texts] + [3, [], None, {"format": FORMAT}]
    files = [mutations.joined(header | {"__metadata__": value}, body) for value in values]
    files += [mutations.joined(value, body) for value in mutations.of_json(header, 40, 1) if isinstance(value, dict)]
    files += mutations.of_bytes(whole, 20, 2)
    files += mutations.of_bytes(whole, 60, 3, head=len(whole) - len(body))
    read = refused = 0
    for data in files:
        path.write_bytes(data)
        try:
            load_avatar(path, head)
            read += 1
        except UserError as e:
            assert len(str(e)) > 20
            refused += 1
    assert refused > 100 and read > 5
