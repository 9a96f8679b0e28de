"""Motions: on a scene, in a file, steadied, and read from frames."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fitdiff_core.errors import UserError
from fitdiff_core.export import ExportOptions, write_avatar, write_glb
from fitdiff_core.export.animation import quaternions, shared_turn
from fitdiff_core.expressions import head_rotation, turn_head
from fitdiff_core.motion import Motion, given_landmarks, read_motion
from fitdiff_core.motion.network import load_network
from fitdiff_core.motion.patches import cut_patches
from fitdiff_core.motion.read import with_open_eyes
from fitdiff_core.motion.solve import MotionProblem, Poses
from fitdiff_core.motion.steady import Steadiness, filled, steady
from fitdiff_core.motion.track import cut, mirrored_points
from fitdiff_core.render.camera import rotation_matrix
from fitdiff_core.render.viewer_camera import axis_angle
from fitdiff_core.scene import Scene
from tests.support.core_faces import core_landmarks
from tests.support.gltf import Glb, clean, validate
from tests.support.plain_avatar import plain_avatar


def motion_of(yaws, fps=25.0, **weights) -> Motion:
    """One frame for each yaw (degrees); weights of shape number N as `s3=[...]`."""
    turn = torch.stack([axis_angle(head_rotation(y, 0.0, 0.0).double()) for y in yaws]).float()
    w = torch.zeros(len(yaws), 52)
    for name, values in weights.items():
        w[:, int(name[1:])] = torch.tensor(values)
    return Motion(w, turn, torch.zeros(len(yaws), 2), fps)


def test_a_scene_keeps_camera_and_light_while_the_head_turns():
    scene = Scene.portrait(yaw=15.0)
    still = motion_of([0.0, 20.0]).turning("still").scenes(scene)
    torch.testing.assert_close(still.camera.rotation, scene.camera.rotation.expand(2, 3), atol=1e-5, rtol=0)
    added = motion_of([-10.0, 10.0]).turning("added").scenes(scene)
    turned = turn_head(scene, 10.0, 0.0)
    torch.testing.assert_close(added.camera.rotation[1:], turned.camera.rotation, atol=1e-4, rtol=0)
    torch.testing.assert_close(added.light.direction[1:], turned.light.direction, atol=1e-4, rtol=0)
    filmed = motion_of([0.0, 25.0]).scenes(scene)
    assert filmed.camera.rotation[0].norm() < 1e-5  # it faces the camera, whatever way it faced in the scene
    torch.testing.assert_close(filmed.camera.translation, scene.camera.translation.expand(2, 3))
    assert len(filmed) == 2 and len(filmed[1]) == 1


def test_strength_is_bounded_and_words_are_checked():
    motion = motion_of([0.0, 0.0], s5=[0.2, 0.8])
    assert motion.stronger(2).weights[:, 5].tolist() == pytest.approx([0.4, 1.0])
    with pytest.raises(UserError, match="as filmed"):
        motion.turning("around")
    with pytest.raises(UserError, match="one picture"):
        motion.scenes(Scene.portrait(2))
    with pytest.raises(UserError, match="frames a second"):
        replace(motion, fps=0.0).check()
    with pytest.raises(UserError, match="NaN"):
        replace(motion, gaze=torch.full((2, 2), math.nan)).check()


def test_gaps_lie_between_their_neighbours():
    values = torch.tensor([[9.0], [0.0], [9.0], [9.0], [3.0], [9.0]])
    known = torch.tensor([False, True, False, False, True, False])
    assert filled(values, known)[:, 0].tolist() == [0, 0, 1, 2, 3, 3]


def test_steadying_takes_flicker_and_has_no_lag():
    g = torch.Generator().manual_seed(0)
    t = torch.arange(100) / 25
    open_ = (0.5 - 0.5 * (2 * math.pi * 4 * t).cos()) * (t > 2)  # four syllables a second, after a still face

    noise = 0.02 * torch.randn(100, generator=g)
    found = steady(open_ + noise, 25.0, Steadiness(1.6, 3.0))
    assert (found[1:50] - found[:49]).abs().mean() < 0.4 * (noise[1:50] - noise[:49]).abs().mean()
    assert (found[50:] - open_[50:]).abs().mean() < 0.1
    lags = [float((found[55:90] * open_[55 + k : 90 + k]).sum()) for k in range(-3, 4)]
    assert int(np.argmax(lags)) == 3
    assert steady(open_, 25.0, Steadiness(1.6, 3.0), 0.0) is open_


def test_person_and_poses_are_found_again_from_their_points(head):
    """Frames of one head: the fit gives back turn and distance, and points within a tenth of a pixel."""
    problem, g = MotionProblem(head), torch.Generator().manual_seed(3)
    true = problem.person(torch.randn(head.n_identity, generator=g).double() * 0.5, torch.tensor(6.0).double())
    turn = torch.stack([head_rotation(y, p, 3.0).double() for y, p in ((0, 0), (15, -5), (-20, 4), (6, 8))])
    expression = torch.zeros(4, 52).double()
    expression[1:, head.expression_names.index("jawOpen")] = 0.4
    shift = torch.tensor([[0.0, 0.0, 0.0]]).double().expand(4, 3).clone()
    poses = Poses(turn, shift, expression)
    _, target = problem.project(true, poses)
    start = Poses(torch.eye(3).double().expand(4, 3, 3), shift + 0.05, torch.zeros(4, 52).double())
    person, found = problem.refine(problem.person(torch.zeros(head.n_identity).double(), true.focal), start, target)
    _, seen = problem.project(person, found)
    assert ((seen - target).norm(dim=2) * 128).mean() < 0.6
    angle = torch.stack([axis_angle(m).norm() for m in found.rotation @ turn.mT]).rad2deg()
    assert angle.max() < 1.5
    jaw = found.expression[:, head.expression_names.index("jawOpen")]
    assert jaw[0] < 0.1 and jaw[1:].min() > 0.25


def test_mirrored_points_are_pairs(head):
    other = mirrored_points(head)
    assert (other[other] == torch.arange(468)).all() and other[33] == 263 and other[1] == 1


def test_the_cut_stays_in_the_frame():
    x, y, part = cut(torch.zeros(3, 100, 200), torch.tensor([190.0, 5.0]), 40.0)
    assert (x, y) == (159, 0) and part.shape == (3, 36, 41)
    assert cut(torch.zeros(3, 100, 200), torch.tensor([400.0, 5.0]), 40.0)[2] is None


def test_neck_and_head_share_the_turn():
    turn = torch.stack([head_rotation(30.0, 10.0, 5.0).double(), torch.eye(3).double()])
    neck, top = shared_turn(turn)
    torch.testing.assert_close(neck @ top, turn)
    assert 5 < axis_angle(neck[0]).norm().rad2deg() < 15
    q = quaternions(turn)
    assert np.allclose(np.linalg.norm(q, axis=1), 1) and np.allclose(q[1], [0, 0, 0, 1])


@pytest.fixture(scope="module")
def bald():
    return plain_avatar().with_hair(None)


@pytest.fixture(scope="module")
def animated(tmp_path_factory, head, bald):
    folder = tmp_path_factory.mktemp("animated")
    jaw = head.expression_names.index("jawOpen")
    motion = motion_of([0.0, 20.0, 0.0], 10.0, **{f"s{jaw}": [0.0, 0.5, 0.1]})
    motion = replace(motion, gaze=torch.tensor([[0.0, 0.0], [0.2, 0.1], [0.0, 0.0]]))
    return [write_glb(folder / f"{rig}.glb", bald, motion=motion, rig=rig, visemes=rig) for rig in (True, False)]


@pytest.mark.parametrize("rig", [True, False])
def test_a_glb_holds_the_motion(animated, rig):
    glb = Glb(animated[0 if rig else 1])
    (animation,) = glb.json["animations"]
    nodes, seen = glb.json["nodes"], {}
    for channel in animation["channels"]:
        name = nodes[channel["target"]["node"]]["name"]
        sampler = animation["samplers"][channel["sampler"]]
        assert glb.accessor(sampler["input"]).reshape(-1).tolist() == pytest.approx([0, 0.1, 0.2])
        seen[name, channel["target"]["path"]] = glb.accessor(sampler["output"])
    moved = {name for name, path in seen if path == "weights"}
    end = "_Mesh" if rig else ""
    assert moved == {f"{n}{end}" for n in ("Head", "Teeth", "Mouth", "EyeWet", "Lashes")}
    count = 72 if rig else 52
    weights = seen[f"Head{end}", "weights"].reshape(3, count)
    assert weights[1].max() == pytest.approx(0.5) and weights.sum() == pytest.approx(0.6)
    joints = {"Neck", "Head"} if rig else set()
    assert {name for name, path in seen if path == "rotation"} == {"Eye_L", "Eye_R"} | joints


@pytest.mark.parametrize("rig", [True, False])
def test_the_validator_finds_nothing(animated, rig):
    report = validate(animated[0 if rig else 1])
    assert clean(report) and report["info"]["animationCount"] == 1


def test_other_formats_hold_no_motion(tmp_path, bald):
    with pytest.raises(UserError, match="no animation"):
        write_avatar(tmp_path / "a.obj", bald, ExportOptions("obj", motion=motion_of([0.0])))


def test_no_frame_and_no_face_are_said(head, detector):
    with pytest.raises(UserError, match="no frames"):
        read_motion([], head, 25.0, detector)
    with pytest.raises(UserError, match="No face was found in any of 2 frames"):
        read_motion([torch.full((3, 96, 96), 0.5)] * 2, head, 25.0, detector)
    with pytest.raises(UserError, match="steadiness"):
        read_motion([], head, 25.0, detector, steadiness=math.nan)


@pytest.fixture(scope="module")
def film(photo):
    """A photo that moves two pixels a frame, with two frames without a face."""
    frames = [photo[0].roll(2 * k, 2) for k in range(6)]
    frames[2] = frames[3] = torch.full_like(photo[0], 0.4)
    return frames


def test_frames_without_a_face_are_between_their_neighbours(film, head, detector):
    motion = read_motion(film, head, 25.0, detector, count=len(film))
    assert motion.seen.tolist() == [True, True, False, False, True, True]
    assert motion.notes[0].startswith("2 of 6 frames show no face")
    motion.check()
    steps = (motion.weights[1:] - motion.weights[:-1]).abs()
    assert steps.max() < 0.05  # one photo: nothing moves
    turn = rotation_matrix(motion.turn.double())
    assert axis_angle(turn[0] @ turn[-1].T).norm().rad2deg() < 1.5


def test_landmarks_of_core_are_taken_with_their_weights(photo, head, detector):
    faces = detector.detect(photo)
    frames = [faces, [], faces]
    landmarks = core_landmarks(frames, 512, 512)
    given = given_landmarks(landmarks, 3, (512, 512), head.expression_names)
    assert given.meshes[1] is None and given.weights[0, head.expression_names.index("jawOpen")] == pytest.approx(0.02)
    motion = read_motion([photo[0]] * 3, head, 25.0, None, given=given)
    jaw = motion.weights[:, head.expression_names.index("jawOpen")]
    assert jaw.tolist() == pytest.approx([0.02] * 3, abs=1e-6) and motion.seen.tolist() == [True, False, True]
    with pytest.raises(UserError, match="of 3 images"):
        given_landmarks(landmarks, 2, (512, 512), head.expression_names)
    landmarks["frames"][0][0]["blendshapes"] = {"jawOpen": "wide"}
    with pytest.raises(UserError, match="no number"):
        given_landmarks(landmarks, 3, (512, 512), head.expression_names)


def test_the_network_file_is_checked(tmp_path):
    with pytest.raises(UserError, match="is missing"):
        load_network(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"hello " * 30)
    with pytest.raises(UserError, match="is damaged"):
        load_network(tmp_path / "bad.safetensors")
    save_file({"w": torch.zeros(2)}, str(tmp_path / "other.safetensors"), {"format": "fitdiff-head-1"})
    with pytest.raises(UserError, match="no network"):
        load_network(tmp_path / "other.safetensors")


def test_patches_lie_on_eyes_and_mouth(photo, head, detector):
    """A photo turned in the plane gives the same patches; the eyes are darkest near the middle of theirs."""
    (face,) = detector.detect(photo)
    eyes, mouth = cut_patches(photo[0], face.mesh)
    assert eyes.shape == (2, 20, 32) and mouth.shape == (32, 40)
    for eye in eyes:
        assert eye[6:14, 8:24].min() < 0.5 * eye.mean()
    turned = photo[0].rot90(1, (1, 2))
    x, y, z = face.mesh.unbind(1)
    same, _ = cut_patches(turned, torch.stack([y, 512 - x, z], 1))
    assert (same - eyes).abs().mean() < 0.01


def test_narrow_eyes_are_no_blink(head):
    """A film whose lids are half shut but for a blink: what is left is the blink."""
    weights = torch.zeros(50, 52)
    left = head.expression_names.index("eyeBlinkLeft")
    weights[:, left] = 0.4
    weights[20:24, left] = 0.95
    found = with_open_eyes(weights, head, 25.0)
    assert found[0, left] == 0 and found[21, left] > 0.9
    assert torch.equal(with_open_eyes(weights[:5], head, 25.0), weights[:5])
