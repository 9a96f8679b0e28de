"""Scenes as batches: index, join, expand."""

from dataclasses import replace

import pytest
import torch

from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import UserError
from fitdiff_core.maps import TextureMaps
from fitdiff_core.pictures import count_pictures, each_picture, scenes_of_heads
from fitdiff_core.render import Camera, Light
from fitdiff_core.scene import Scene


def scene_of(batch: int, lights: int = 1) -> Scene:
    angles = 10.0 * torch.arange(batch)
    return Scene(
        Camera.orbit(angles, angles / 2),
        Light.preset("studio", lights),
        torch.rand(batch, 52),
        torch.rand(batch, 2),
        (64, 48),
        torch.rand(batch, 2, 3),
    )


def avatar_of(batch: int) -> Avatar:
    maps = TextureMaps(*(torch.rand(batch, 3, 8, 8) for _ in range(3)))
    return Avatar(None, torch.rand(batch, 5), maps)


def test_a_scene_gives_one_picture_and_its_single_parts_serve_all():
    scene = scene_of(3, lights=1)
    assert len(scene) == 3
    one = scene[2]
    assert len(one) == 1 and one.size == (64, 48)
    assert torch.equal(one.expression, scene.expression[2:]) and torch.equal(one.crop, scene.crop[2:])
    assert torch.equal(one.camera.rotation, scene.camera.rotation[2:])
    assert torch.equal(one.light.sh, scene.light.sh)
    assert replace(scene, crop=None)[0].crop is None
    assert len(list(scene)) == 3 and torch.equal(scene[-1].gaze, scene[2].gaze)


@pytest.mark.parametrize("batch", [scene_of(2), scene_of(2).camera, Light.studio(2), avatar_of(2), avatar_of(2).maps])
def test_no_entry_beyond_the_batch(batch):
    with pytest.raises(IndexError):
        batch[2]
    assert len(list(batch)) == len(batch) == 2


def test_joined_scenes_give_their_pictures_again():
    scenes = [scene_of(2, lights=2), replace(scene_of(1), light=Light.ambient(1))]
    both = Scene.cat(scenes)
    assert len(both) == 3 and both.size == (64, 48)
    for i, picture in enumerate([scenes[0][0], scenes[0][1], scenes[1]]):
        assert torch.equal(both[i].camera.translation, picture.camera.translation)
        assert torch.equal(both[i].expression, picture.expression) and torch.equal(both[i].crop, picture.crop)
        assert torch.equal(both[i].light.sh, picture.light.sh)
    assert Scene.cat([scenes[0], replace(scenes[1], crop=None)]).crop is None


def test_a_scene_is_copied_for_a_batch():
    scene = scene_of(1)
    three = scene.expand(3)
    assert len(three) == len(three.light) == len(three.crop) == 3
    three.expression[0] = 0
    assert torch.equal(three.expression[1], scene.expression[0])
    assert scene.expand(1).expression is scene.expression
    with pytest.raises(RuntimeError):
        scene_of(2).expand(3)


def test_heads_and_scenes_of_pictures():
    found = list(each_picture(avatar_of(1), scene_of(3)))
    assert len(found) == count_pictures(avatar_of(1), scene_of(3)) == 3
    heads, scene = avatar_of(2), scene_of(1)
    for i, (head, one) in enumerate(each_picture(heads, scene)):
        assert torch.equal(head.shape, heads.shape[i : i + 1]) and torch.equal(one.expression, scene.expression)
    with pytest.raises(UserError, match="2 heads, 3 cameras"):
        count_pictures(avatar_of(2), scene_of(3))
    with pytest.raises(UserError, match="3 pictures, the avatar of 2 heads"):
        scenes_of_heads(avatar_of(2), scene_of(3))
    assert [len(s) for s in scenes_of_heads(heads, scene)] == [1, 1]
