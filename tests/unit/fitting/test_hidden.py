"""The user is told what hides much of the face."""

from dataclasses import dataclass, replace

import torch

from fitdiff_core.fitting.photo import FittedPhoto
from fitdiff_core.render import Camera
from fitdiff_core.scene import Scene


@dataclass
class Read:
    found: dict

    def shares(self, face):
        return self.found


def photo(yaw=0.0, **found):
    fitted = object.__new__(FittedPhoto)
    object.__setattr__(fitted, "reading", Read({"hair over skin": 0.0, "glasses": 0.0, "other occluder": 0.0} | found))
    scene = Scene.portrait(1)
    object.__setattr__(fitted, "scene", replace(scene, camera=Camera.orbit(yaw)))
    object.__setattr__(fitted, "regions", torch.ones(1, 4, 8, 8))
    return fitted


def test_little_is_not_told_and_much_is():
    assert photo(glasses=0.05).describe_hidden("a.jpg") == []
    (line,) = photo(**{"glasses": 0.2, "hair over skin": 0.31}).describe_hidden("a.jpg")
    assert line.startswith("a.jpg shows hair (31% of the face) and glasses (20% of the face)")


def test_a_profile_is_told_and_gives_its_shape_alone():
    turned, half = photo(yaw=60.0), photo(yaw=-35.0)
    (line,) = turned.describe_hidden("a.jpg")
    assert "from the side" in line and not turned.textured
    assert half.describe_hidden("a.jpg") == [] and half.textured


def test_burnt_out_skin_is_no_thing_before_the_face():
    (line,) = photo(**{"burnt out": 0.4}).describe_hidden("a.jpg")
    assert "burnt out" in line
