"""Hair: styles, growth, drawing and export."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from fitdiff_core import pipeline
from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import UserError
from fitdiff_core.export import ExportOptions, write_avatar
from fitdiff_core.hair import groom
from fitdiff_core.hair.artist import adjust
from fitdiff_core.hair.body import Body
from fitdiff_core.hair.colour import COLOURS, nearest_pigment, pigment_colour
from fitdiff_core.hair.envelope import settle
from fitdiff_core.hair.groom import TRIANGLES, grow_hair, scalp_of
from fitdiff_core.hair.growth import Strands, grow
from fitdiff_core.hair.locks import without_strays
from fitdiff_core.hair.outline import FACE
from fitdiff_core.hair.presets import PRESETS
from fitdiff_core.hair.scalp import Roots
from fitdiff_core.hair.style import OPENING, RANGES, HairStyle
from fitdiff_core.hair.underlay import worn_maps
from fitdiff_core.head.inner_mouth import paint_mouth
from fitdiff_core.head.model import load_head
from fitdiff_core.maps import TextureMaps
from fitdiff_core.render import Camera, Light
from fitdiff_core.scene import Scene
from tests.support.gltf import Glb

HEAD = load_head()
FEW = ("side_part", "long_wavy", "afro", "locs", "ponytail", "low_bun", "braid", "buzz_cut", "half_up")


def avatar_of(style: str | None = None, seed: int = 0) -> Avatar:
    shape = torch.randn(1, HEAD.n_identity, generator=torch.Generator().manual_seed(seed)) * 0.7
    skin = torch.tensor([0.45, 0.28, 0.2])[None, :, None, None].expand(1, 3, 64, 64).clone()
    up = torch.tensor([0.0, 0.0, 1.0])[None, :, None, None].expand(1, 3, 64, 64).clone()
    avatar = Avatar(HEAD, shape, TextureMaps(skin, torch.full_like(skin, 0.35), up))
    return avatar if style is None else avatar.with_hair(PRESETS[style])


def hair_of(style: str, seed: int = 0) -> groom.HairMesh:
    return grow_hair(HEAD, avatar_of(seed=seed).shape, PRESETS[style])


def test_there_are_presets_for_all_hair():
    assert len(PRESETS) >= 24
    assert {s.strand for s in PRESETS.values()} == {"straight", "curly", "coily", "loc", "braid"}
    for style in PRESETS.values():
        for name, (low, high) in RANGES.items():
            assert low <= getattr(style, name) <= high


def test_a_style_refuses_what_it_cannot_be():
    with pytest.raises(UserError, match="top"):
        HairStyle(top=float("nan"))
    with pytest.raises(UserError, match="flow"):
        HairStyle(flow="sideways")
    with pytest.raises(UserError, match="no 'height'"):
        HairStyle().with_(height=1.0)
    assert HairStyle().with_(top=9.0).top == RANGES["top"][1]


@pytest.mark.parametrize("style", FEW)
def test_growth_keeps_its_contracts(style):
    """Budget of triangles, unit vectors, finite numbers, uv inside the atlas."""
    hair = hair_of(style)
    assert 0 < len(hair.triangles) <= TRIANGLES
    assert int(hair.triangles.max()) < len(hair.positions) and int(hair.triangles.min()) >= 0
    for x in (hair.positions, hair.normals, hair.tangents, hair.direction, hair.uv, hair.light):
        assert torch.isfinite(x).all()
    assert torch.allclose(hair.normals.norm(dim=1), torch.ones(len(hair.normals)), atol=1e-3)
    assert hair.uv.min() >= 0 and hair.uv.max() <= 1
    assert hair.light.min() >= 0 and hair.light.max() <= 1


@pytest.mark.parametrize("style", ["side_part", "long_straight", "afro"])
def test_no_hair_inside_the_skull(style):
    avatar = avatar_of(seed=4)
    hair = grow_hair(HEAD, avatar.shape, PRESETS[style])
    scalp = scalp_of(HEAD)
    body = Body(avatar.vertices()[0].numpy().astype(float), scalp.solid_without_ears)
    points = hair.positions.numpy().astype(float)
    points = points[points[:, 1] > -0.05]
    assert body.exact(points).min() > -0.004  # cards are wide, strands lie on the skin


def test_growth_is_deterministic_and_the_seed_changes_it():
    first = hair_of("bob")
    groom._grooms.clear()
    again = hair_of("bob")
    assert first is not again
    assert torch.equal(first.positions, again.positions) and torch.equal(first.texture.color, again.texture.color)
    other = grow_hair(HEAD, avatar_of().shape, PRESETS["bob"].with_(seed=1))
    assert other.positions.shape != first.positions.shape or not torch.equal(other.positions, first.positions)


def test_roots_follow_identity_and_expression():
    avatar = avatar_of("side_part", seed=2)
    hair = grow_hair(HEAD, avatar.shape, avatar.hair[0])
    neutral = avatar.vertices()[0]
    assert torch.allclose(hair.on(neutral), hair.positions, atol=1e-6)
    expression = torch.zeros(1, 52)
    expression[0, HEAD.expression_names.index("browInnerUp")] = 1
    moved = hair.on(HEAD(avatar.shape, expression)[0]) - hair.positions
    assert 0 < moved.norm(dim=1).max() < 0.01


def test_bald_grows_nothing():
    assert grow_hair(HEAD, avatar_of().shape, PRESETS["bald"]) is None
    avatar = avatar_of()
    painted = paint_mouth(avatar.maps.stack())
    assert torch.equal(worn_maps(avatar).stack(), painted) and torch.equal(
        worn_maps(avatar.with_hair(None)).stack(), painted
    )
    assert worn_maps(avatar.with_hair(PRESETS["bald"])).size == avatar.maps.size


def test_artists_values():
    style = adjust(PRESETS["bob"], length=1.5, volume=2, parting="left", colour="red", grey=0.3, seed=7)
    assert style.hem < PRESETS["bob"].hem and style.volume == 2 * PRESETS["bob"].volume
    assert (style.part, style.grey, style.seed) == (0.03, 0.3, 7)
    assert (style.melanin, style.redness) == COLOURS["red"]
    assert adjust(PRESETS["bob"], colour="#ff0000").dye == (1.0, 0.0, 0.0)
    assert adjust(PRESETS["long_wavy"], curl=-1).wave == 0
    assert adjust(PRESETS["long_straight"], curl=1).strand == "curly"
    fitted = PRESETS["bob"].with_(opening=(0.06,) * OPENING)
    assert adjust(fitted, length=0.8).opening == fitted.opening and adjust(fitted, length=1.5).opening == ()
    for wrong in ({"colour": "mud"}, {"colour": "#12"}, {"parting": "up"}):
        with pytest.raises(UserError):
            adjust(PRESETS["bob"], **wrong)


def test_a_fringe_is_cut_at_the_opening():
    """No hair before the face below a line that lies 6 cm over the bridge of the nose, but hair right above it."""
    line = 0.06
    style = PRESETS["bob_with_fringe"].with_(fringe=0.12, opening=(line,) * OPENING)
    points = grow_hair(HEAD, avatar_of().shape, style).positions.numpy()
    before = points[(np.abs(points[:, 0]) < 0.03) & (points[:, 2] > 0.05)]
    far = np.linalg.norm(before[:, :2] - FACE, axis=1)
    assert far.min() > line - 0.025 and far.min() < line + 0.005


def test_streaks_are_the_contrast_between_strands():
    scalp, spread = scalp_of(HEAD), []
    for streaks in (0.5, 1.0, 1.5):
        texture = groom.hair_texture(scalp, PRESETS["bob"].with_(streaks=streaks))
        cards = texture.color[0, :256][texture.alpha[0, :256] > 0.9].log()
        spread.append(float(cards.quantile(0.9) - cards.quantile(0.1)))
    assert spread[0] < 0.7 * spread[1] < 0.7 * spread[2]


def test_strands_that_run_alone_are_left_out():
    rng = np.random.default_rng(0)
    along = np.linspace(0, 0.1, 9)[None, :, None] * [0.0, -1.0, 0.0]
    start = rng.uniform(-0.02, 0.02, (600, 1, 3))
    start[0] += [0.1, 0.0, 0.0]
    points = start + along
    roots = Roots(np.zeros((600, 3), int), np.ones((600, 3)), points[:, 0], np.zeros(600))
    strands = Strands(points, np.zeros_like(points), roots, np.zeros(600), np.arange(600))
    kept = without_strays(strands, HairStyle(frizz=0.1)).lock
    assert 0 not in kept and len(kept) > 560
    assert len(without_strays(strands, HairStyle(frizz=0.8))) == 600


def test_smooth_hair_has_one_surface():
    """A strand that stands 2 cm over the others comes down to them; untidy hair stays as it is."""
    scalp, rng = scalp_of(HEAD), np.random.default_rng(0)
    vertices = HEAD(torch.zeros(1, HEAD.n_identity))[0].numpy().astype(float)
    body, style = Body(vertices, scalp.solid), PRESETS["bob"]
    roots = scalp.roots(style, 800, rng)
    hair = grow(style, roots, roots.on(vertices), body, rng, 9)
    crown = int(np.argmax(hair.points[:, 3, 1]))
    hair.points[crown, 2:5] += 0.02 * hair.out[crown, 2:5]
    before, after = (body(s.points[crown, 2:5])[0].max() for s in (hair, settle(hair, style, body)))
    assert after < 0.7 * before
    assert settle(hair, style.with_(frizz=0.9), body) is hair


def test_locks_differ_in_brightness_and_coils_do_not():
    apart = lambda style: float(hair_of(style).tone.mean(1).std())  # noqa: E731
    assert apart("side_part") > 0.12
    assert apart("afro") < 0.08


def test_pigment_is_found_again():
    for melanin, redness in COLOURS.values():
        m, r, away = nearest_pigment(pigment_colour(melanin, redness))
        assert away < 3 and abs(m - melanin) < 0.12


def test_rendering_draws_hair_and_leaves_the_rest():
    plain, size = avatar_of(), (96, 96)
    scene = Scene.portrait(1)
    scene.camera = Camera.orbit(0.0, 0.0, 1.2, 20.0)
    bare, mask = pipeline.render_avatar(plain, scene, size)
    same, _ = pipeline.render_avatar(plain.with_hair(None), scene, size)
    assert torch.equal(bare, same)
    haired, haired_mask = pipeline.render_avatar(plain.with_hair(PRESETS["bob"]), scene, size)
    assert torch.isfinite(haired).all() and (haired_mask >= mask - 1e-5).all()
    change = (haired - bare).abs().amax(1)[0]
    assert change[:30].max() > 0.2  # the top of the head
    assert change[48:56, 44:52].max() < 0.1  # the nose
    assert (haired_mask.sum() > 1.1 * mask.sum()).item()


def test_a_batch_keeps_each_heads_hair():
    one = avatar_of()
    two = Avatar(HEAD, one.shape.repeat(2, 1), TextureMaps(*(x.repeat(2, 1, 1, 1) for x in vars(one.maps).values())))
    two = two.with_hair(None, PRESETS["bob"])
    assert two[0].hair == (None,) and two[1].hair == (PRESETS["bob"],)
    image, _ = pipeline.render_avatar(two, Scene.portrait(2), 64, light=Light.ambient())
    assert (image[0] - image[1]).abs().max() > 0.1
    with pytest.raises(UserError, match="3 hair styles"):
        two.with_hair(None, None, None)


def test_hair_without_a_photo_is_by_seed():
    avatar = avatar_of()
    first, notes = pipeline.add_hair(avatar, seed=3)
    again, _ = pipeline.add_hair(avatar, seed=3)
    assert first.hair == again.hair and not notes
    assert len({pipeline.add_hair(avatar, seed=s)[0].hair for s in range(6)}) > 1
    shape = torch.cat([avatar_of(seed=5).shape, avatar.shape])
    pair = Avatar(HEAD, shape, TextureMaps(*(x.repeat(2, 1, 1, 1) for x in vars(avatar.maps).values())))
    assert pipeline.add_hair(pair, seed=3)[0].hair[1:] == first.hair, "alone and in a batch"
    assert pipeline.add_hair(first, "none")[0].hair == (None,)
    with pytest.raises(UserError, match="Unknown hair style"):
        pipeline.add_hair(avatar, "mullet_of_1985")


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply", "usdz"])
def test_export_holds_the_hair(suffix, tmp_path):
    avatar = avatar_of("ponytail")
    path = write_avatar(tmp_path / f"a.{suffix}", avatar, ExportOptions(suffix, blendshapes=False))
    n = len(grow_hair(HEAD, avatar.shape, avatar.hair[0]).positions)
    if suffix == "usdz":
        data = path.read_bytes()
        assert b'def Mesh "Hair"' in data and b"opacityThreshold" in data and b"textures/hair.png" in data
        return
    scene = trimesh.load(path, process=False, maintain_order=True)
    if suffix == "ply":
        assert len(scene.vertices) > n
        return
    mesh = scene.geometry["Hair"]
    assert len(mesh.faces) == 2 * len(grow_hair(HEAD, avatar.shape, avatar.hair[0]).triangles)
    assert np.ptp(mesh.vertices[:, 1]) > 0.2


def test_glb_material_cuts_out_alpha(tmp_path):
    glb = Glb(write_avatar(tmp_path / "a.glb", avatar_of("bob"), ExportOptions("glb", blendshapes=False)))
    material = glb.json["materials"][-1]
    assert (material["name"], material["alphaMode"], material["alphaCutoff"]) == ("Hair", "MASK", 0.4)
    assert "doubleSided" not in material
    attributes = glb.json["meshes"][-1]["primitives"][0]["attributes"]
    assert {"POSITION", "NORMAL", "TANGENT", "TEXCOORD_0", "COLOR_0", "JOINTS_0", "WEIGHTS_0"} == set(attributes)
