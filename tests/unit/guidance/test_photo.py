"""Scene fit and guidance with the shipped head and networks, on the sample portrait."""

from dataclasses import replace

import pytest
import torch

from fitdiff_core import pipeline
from fitdiff_core.errors import UserError
from fitdiff_core.fitting import fit_landmarks, fit_photo
from fitdiff_core.fitting.pose import axis_angle_to_matrix, matrix_to_axis_angle
from fitdiff_core.guidance import Guidance, GuidanceSettings, GuidanceWeights, PhotoObjective, PhotoTarget
from fitdiff_core.guidance.optimiser import RMSNormalisedMomentum
from fitdiff_core.head import load_head
from fitdiff_core.identity import load_recognizer
from fitdiff_core.image import load_photo
from fitdiff_core.render import Camera
from tests.support.paths import SAMPLE


@pytest.fixture(scope="module")
def tools():
    return load_head(), load_recognizer("built-in", device="cpu")


@pytest.fixture(scope="module")
def face():
    return pipeline.find_faces(load_photo(SAMPLE))[0]


@pytest.fixture(scope="module")
def portrait(tools, face):
    return fit_photo(load_photo(SAMPLE), face, tools[0])


@pytest.mark.parametrize("yaw, pitch, roll", [(0, 0, 0), (35, 10, -12), (-50, -15, 5)])
def test_the_shipped_head_is_found_again(tools, yaw, pitch, roll):
    head = tools[0]
    g = torch.Generator().manual_seed(abs(yaw))
    identity, expression = torch.randn(1, head.n_identity, generator=g), torch.zeros(1, 52)
    for name, value in (("jawOpen", 0.4), ("mouthSmileLeft", 0.6), ("mouthSmileRight", 0.6), ("browInnerUp", 0.5)):
        expression[0, head.expression_names.index(name)] = value
    rotation = torch.tensor([[pitch, yaw, roll]]).float().deg2rad()
    camera = Camera(torch.tensor([6.0]), rotation, torch.tensor([[0.0, 0.02, -1.0]]))
    points = camera.project(head.landmarks(head(identity, expression), "mesh"), (256, 256))[0]
    points = points + 0.7 * torch.randn(468, 2, generator=g)
    found = fit_landmarks(points, head)
    assert found.residual < 2
    relative = axis_angle_to_matrix(found.rotation) @ axis_angle_to_matrix(rotation[0].double()).T
    assert matrix_to_axis_angle(relative).norm().rad2deg() < 4
    smile = head.expression_names.index("mouthSmileLeft")
    assert found.expression[smile] > 0.25


def test_the_scene_of_a_portrait(tools, portrait):
    head, scene = tools[0], portrait.scene
    vertices = head(portrait.shape, scene.expression, scene.gaze)
    points = scene.camera.project(head.landmarks(vertices, "mesh"), portrait.size)
    assert (points - portrait.mesh).norm(dim=2).median() < 2
    assert 0.3 < -scene.camera.translation[0, 2] < 4.1
    smiles = [head.expression_names.index(n) for n in ("mouthSmileLeft", "mouthSmileRight")]
    assert (scene.expression[0, smiles] > 0.3).all()  # she does
    assert scene.light.sh[0, 0].min() > 0.5
    assert portrait.visible[..., 100:160, 100:160].mean() > 0.9


def test_similarity_to_itself_and_to_noise(tools, portrait):
    target = PhotoTarget.of(portrait, tools[1])
    assert target.similarity(portrait.image) == pytest.approx(1, abs=1e-3)
    large = torch.nn.functional.interpolate(portrait.image, (512, 512), mode="bilinear")
    assert target.similarity(large) > 0.9
    assert target.similarity(torch.rand_like(portrait.image)) < 0.5


def test_prepared_the_same_under_inference_mode(tools, portrait):
    with torch.inference_mode():
        photo = load_photo(SAMPLE).clone()
        again = fit_photo(photo, pipeline.find_faces(photo)[0], tools[0])
        target = PhotoTarget.of(again, tools[1])
    assert (
        not target.embedding.is_inference()
        and not again.image.is_inference()
        and not again.scene.expression.is_inference()
    )
    assert torch.allclose(again.scene.camera.rotation, portrait.scene.camera.rotation, atol=1e-4)


def test_a_landscape_or_a_batch_is_a_user_error(tools, face):
    with pytest.raises(UserError, match="face"):
        pipeline.find_faces(torch.rand(1, 3, 200, 200, generator=torch.Generator().manual_seed(0)) * 0.1)
    with pytest.raises(UserError, match="one photo"):
        fit_photo(torch.rand(2, 3, 64, 64), face, tools[0])


def test_a_mask_says_what_is_used(tools, face, portrait):
    photo = load_photo(SAMPLE)
    mask = torch.ones_like(photo[:, :1])
    mask[..., 260:] = 0  # the right half
    masked = fit_photo(photo, face, tools[0], mask)
    matrix = portrait.scene.crop[0]
    edge = float(260 * matrix[0, 0] + matrix[0, 2])  # in the crop
    assert masked.visible[..., int(edge) + 3 :].max() == 0
    assert masked.visible[..., 60:200, 60 : int(edge) - 3].min() == 1
    assert torch.equal(masked.image, portrait.image)
    back = masked.visible_mask(photo.shape[-2:])
    assert back.shape == mask.shape
    nothing = replace(masked, visible=torch.zeros_like(mask[..., :256, :256]))
    inside = nothing.visible_mask(photo.shape[-2:]) == 0
    assert ((back - mask).abs()[inside] > 0.5).float().mean() < 0.02
    assert back[~inside].min() == 1  # outside the crop nothing is known against it


def test_a_mask_that_does_not_fit_is_a_user_error(tools, face):
    photo = load_photo(SAMPLE)
    with pytest.raises(UserError, match="give a mask of the photo's size"):
        fit_photo(photo, face, tools[0], torch.ones(1, 1, 9, 9))
    with pytest.raises(UserError, match="Invert it"):
        fit_photo(photo, face, tools[0], torch.zeros_like(photo[:, :1]))
    with pytest.raises(UserError, match="NaN"):
        fit_photo(photo, face, tools[0], torch.full_like(photo[:, :1], torch.nan))


def test_maps_and_shape_descend_to_the_portrait(tools, portrait):
    """The objective alone, without a prior: texels and shape go down its gradient."""
    head = tools[0]
    start = torch.zeros(1, 9, 128, 128)
    start[:, 0:3] = torch.tensor([0.36, 0.21, 0.145])[None, :, None, None]
    start[:, 3:6], start[:, 8] = 0.34, 1.0
    weights = GuidanceWeights(identity=0.5, perceptual=0.5, photometric=1.0, landmark=0.5)
    goal = Guidance(PhotoTarget.of(portrait, tools[1]), GuidanceSettings(weights))
    objective = PhotoObjective(head, lambda z: start + torch.cat([z, torch.zeros_like(start[:, 3:])], 1), goal)
    texels, shape, scene = torch.zeros(1, 3, 128, 128), portrait.shape.clone(), portrait.scene
    steps, first = (RMSNormalisedMomentum(0.02), RMSNormalisedMomentum(0.05)), None
    for _ in range(7):
        texels.requires_grad_(True)
        shape.requires_grad_(True)
        loss, scene, terms = objective(texels, shape, scene)
        first = first or {k: float(v.detach()) for k, v in terms.items()}
        grads = torch.autograd.grad(loss.sum(), [texels, shape])
        texels, shape = ((x + step(g)).detach() for x, step, g in zip((texels, shape), steps, grads, strict=True))
    assert terms["photometric"] < 0.75 * first["photometric"]
    assert terms["identity"] < 0.5 * first["identity"]
    assert torch.isfinite(loss).all()
