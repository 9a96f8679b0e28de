"""Teeth are found in a picture, the mouth settles on the photo's landmarks, and teeth take the photo's shade."""

from dataclasses import replace

import pytest
import torch

from fitdiff_core.avatar import Avatar
from fitdiff_core.detail.teeth import LIGHTEST, match_teeth, shaded
from fitdiff_core.face.mesh_points import CHIN, OUTLINE
from fitdiff_core.fitting.settle import settle_mouth
from fitdiff_core.fitting.smile import SMILE, Teeth, see_teeth
from fitdiff_core.head.teeth import paint, patch_mask
from fitdiff_core.maps import TextureMaps
from fitdiff_core.pipeline import render_avatar
from fitdiff_core.render import Camera
from fitdiff_core.scene import Scene
from tests.support.expressions import weights_of

SIZE = 512
SKIN = (0.42, 0.26, 0.19)


@pytest.fixture(scope="module")
def avatar(head):
    stack = torch.cat([torch.tensor([*SKIN, 0.34, 0.34, 0.34]), torch.tensor([0.0, 0, 1])])[None, :, None, None]
    return Avatar(head, torch.zeros(1, head.n_identity), TextureMaps.from_stack(paint(stack.repeat(1, 1, 256, 256))))


def portrait(head, size=256, **actions):
    """A scene with a face that fills the picture, and its mesh `[1, 468, 2]`."""
    camera = Camera.orbit(0.0, 0.0, 0.9, 13.0, (0.0, -0.03, 0.05))
    scene = replace(Scene.portrait(1), camera=camera, size=(size, size), expression=weights_of(head, **actions))
    vertices = head(torch.zeros(1, head.n_identity), scene.expression)
    return scene, camera.project(head.landmarks(vertices, "mesh"), (size, size))


def picture(avatar, scene):
    return render_avatar(avatar, scene, SIZE)[0]


def test_teeth_of_a_smile_are_seen_and_those_of_shut_lips_are_not(avatar, head):
    scene, mesh = portrait(head, SIZE, mouthSmile=0.7, mouthUpperUp=0.5, mouthLowerDown=0.4)
    teeth = see_teeth(picture(avatar, scene)[0], mesh[0])
    assert teeth.share > 0.3 and 0.7 < teeth.brightness < 2
    assert teeth.colour[2] > teeth.colour[0], "teeth are less red than skin"
    scene, mesh = portrait(head, SIZE)
    shut = see_teeth(picture(avatar, scene)[0], mesh[0])
    assert shut is None or shut.share < SMILE


def test_an_open_mouth_shows_few_teeth(avatar, head):
    scene, mesh = portrait(head, SIZE, jawOpen=0.6)
    teeth = see_teeth(picture(avatar, scene)[0], mesh[0])
    assert teeth.share < 0.2 and teeth.dark > 0.15


def drifted(head, scene):
    moved = weights_of(head, jawOpen=0.4, mouthClose=0.2, mouthSmile=0.3, eyeBlink=0.25)
    camera = Camera(scene.camera.focal, scene.camera.rotation + 0.02, scene.camera.translation + 0.002)
    return replace(scene, expression=moved, camera=camera)


@pytest.mark.parametrize("teeth", [None, Teeth(0.6, torch.ones(3), 0.1)])
def test_the_mouth_settles_on_the_landmarks(head, teeth):
    scene, mesh = portrait(head, mouthSmile=0.7, mouthUpperUp=0.3)
    shape = torch.zeros(2, head.n_identity)
    start = drifted(head, scene)
    found = settle_mouth(start.expand(2), head, shape, mesh, teeth)
    points = found.camera.project(head.landmarks(head(shape, found.expression), "mesh"), (256, 256))
    before = start.camera.project(head.landmarks(head(shape[:1], start.expression), "mesh"), (256, 256))
    assert (before - mesh).norm(dim=2).mean() > 3
    assert (points - mesh).norm(dim=2).mean() < 0.8
    jaw, blink = (head.expression_names.index(name) for name in ("jawOpen", "eyeBlinkLeft"))
    assert (found.expression[:, jaw] < 0.1).all()
    assert (found.expression[:, blink] == 0.25).all(), "lids are not the mouth's"
    assert found.expression.min() >= 0 and found.expression.max() <= 1
    assert torch.equal(found.expression[0], found.expression[1])


def test_the_jaw_stays_shut_behind_teeth_and_opens_without(head):
    scene, mesh = portrait(head, jawOpen=0.3, mouthSmile=0.4)
    shape, jaw = torch.zeros(1, head.n_identity), head.expression_names.index("jawOpen")
    open_ = settle_mouth(scene, head, shape, mesh)
    shut = settle_mouth(scene, head, shape, mesh, Teeth(0.6, torch.ones(3), 0.1))
    assert open_.expression[0, jaw] > 0.2 > 0.15 > shut.expression[0, jaw]


def test_teeth_take_the_shade_of_the_photo(avatar, head):
    scene, _ = portrait(head, mouthSmile=0.7, mouthUpperUp=0.5, mouthLowerDown=0.4)
    scene = replace(scene, crop=torch.tensor([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]]))
    patch = patch_mask(256)
    photo = picture(replace(avatar, maps=shaded(avatar.maps, torch.tensor([0.7, 0.7, 0.7]))), scene)
    darker = match_teeth(avatar, scene, photo)
    ratio = (darker.maps.diffuse / avatar.maps.diffuse)[0][:, patch].median(1).values
    assert ((ratio - 0.7).abs() < 0.12).all()
    assert torch.equal(darker.maps.diffuse[0][:, ~patch], avatar.maps.diffuse[0][:, ~patch])
    shut, _ = portrait(head)
    shut = replace(shut, crop=scene.crop)
    assert match_teeth(avatar, shut, picture(avatar, shut)) is avatar


def test_teeth_stay_below_white(avatar):
    white = shaded(avatar.maps, torch.tensor([3.0, 3.0, 3.0])).diffuse[0][:, patch_mask(256)]
    assert white.max() <= LIGHTEST + 1e-6 and (white[0] > white[2]).all()


def test_shut_lips_stay_shut_over_a_long_chin(head):
    """The chin of the photo lies lower than the shape's; that must not part the lips."""
    scene, mesh = portrait(head, mouthSmile=0.2)
    mesh = mesh.clone()
    mesh[:, [i for i in OUTLINE if mesh[0, i, 1] > mesh[0, 200, 1]], 1] += 5
    shape, jaw = torch.zeros(1, head.n_identity), head.expression_names.index("jawOpen")
    found = settle_mouth(drifted(head, scene), head, shape, mesh)
    assert mesh[0, CHIN, 1] == mesh[0, :, 1].max() and found.expression[0, jaw] < 0.03
