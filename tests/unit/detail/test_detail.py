"""Photo detail gives back the albedo of a head that our own renderer photographed under hard side light."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fitdiff_core import pipeline
from fitdiff_core.avatar import Avatar
from fitdiff_core.detail import photo_detail, unwrap
from fitdiff_core.detail.add import fillable
from fitdiff_core.detail.blend import multiband
from fitdiff_core.detail.inpainting import KnownCells, inpaint
from fitdiff_core.errors import UserError
from fitdiff_core.filters import erode_and_feather, gaussian_blur, guided_filter, normalized_convolution
from fitdiff_core.head import load_head
from fitdiff_core.image import linear_to_srgb
from fitdiff_core.maps import TextureMaps
from fitdiff_core.render import Camera, Light, render
from fitdiff_core.scene import Scene

SIZE, PHOTO = 256, 512
SKIN = torch.tensor([0.42, 0.26, 0.19]).view(1, 3, 1, 1)


def maps_of(diffuse):
    normal = torch.zeros_like(diffuse)
    normal[:, 2] = 1
    return TextureMaps(diffuse, torch.full_like(diffuse, 0.3), normal)


def spots(size=SIZE, seed=0):
    """Pigment of a few texels' size, log `[1, 1, S, S]`; no broad part."""
    x = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(seed))
    x = gaussian_blur(x, 1.5) - gaussian_blur(x, 6.0)
    return 0.12 * x / x.std()


@pytest.fixture(scope="module")
def case():
    """avatar (plain skin), the true albedo, its photo, the true scene: turned by 25 degrees, lamp from one side."""
    head = load_head()
    shape = torch.zeros(1, head.n_identity)
    truth = (SKIN * spots().exp()).clamp(0, 1)
    light = Light(Light.preset("side").sh * 1.5, *(getattr(Light.preset("side"), n) for n in ("direction", "color")))
    scene = Scene(
        Camera.orbit(25.0, 0.0, 0.9, 20.0),
        light,
        torch.zeros(1, 52),
        torch.zeros(1, 2),
        (256, 256),
        torch.tensor([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]]),
    )
    out = render(head(shape), head, maps_of(truth), scene.camera, light, (PHOTO, PHOTO), background=(0.2, 0.2, 0.2))
    photo = linear_to_srgb(out.image).clamp(0, 1)
    return Avatar(head, shape, maps_of(SKIN.expand(1, 3, SIZE, SIZE).clone())), truth, photo, scene


@pytest.fixture(scope="module")
def found(case):
    avatar, _, photo, scene = case
    return photo_detail(None, avatar, scene, photo, mask=torch.ones_like(photo[:, :1]), mirror=0.0)


def log_error(a, b, where):
    d = ((a + 0.01) / (b + 0.01)).log().mean(1, keepdim=True)[where]
    return float((d - d.median()).square().mean().sqrt())


def test_albedo_comes_back_from_hard_side_light(case, found):
    avatar, truth, photo, scene = case
    seen = unwrap(avatar, scene, photo, torch.ones_like(photo[:, :1]), SIZE)
    where = found.weight > 0.9
    assert where.float().mean() > 0.08
    before = log_error(avatar.maps.diffuse, truth, where)
    plain, after = log_error(seen.radiance, truth, where), log_error(found.avatar.maps.diffuse, truth, where)
    assert after < 0.6 * before < 0.3 * plain
    # and its tone is the avatar's, whatever the exposure
    tone = (found.avatar.maps.diffuse / truth)[where.expand_as(truth)].median()
    assert tone == pytest.approx(1, abs=0.05)


def test_each_texel_gets_the_pixel_that_shows_it(case, found):
    """Half a texel off, and the correlation with the truth would fall."""
    _, truth, _, _ = case
    detail = (found.avatar.maps.diffuse / SKIN).log().mean(1)[0]
    true = (truth / SKIN).log().mean(1)[0]
    w = (found.weight > 0.9)[0, 0].float()

    def correlation(dy, dx):
        moved = torch.roll(true, (dy, dx), (0, 1))
        return float((w * detail * moved).sum() / ((w * detail**2).sum() * (w * moved**2).sum()).sqrt())

    here = correlation(0, 0)
    assert here > 0.8
    assert all(here > correlation(dy, dx) + 0.05 for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)))


def test_the_hidden_side_weighs_nothing(case, found):
    avatar, _, _, scene = case
    position, covered = avatar.head.uv_positions(avatar.vertices(scene), SIZE)
    away = covered[None, None] & (position[:, :1] < -0.055) & (position[:, 2:] < 0.03)  # the camera stands at +x
    assert away.sum() > 200 and found.weight[away].max() == 0
    changed = (found.avatar.maps.diffuse - avatar.maps.diffuse).abs().amax(1, keepdim=True)
    assert changed[away].mean() < 0.002
    island = avatar.head.region("eyes", SIZE) > 0
    assert found.weight[0, 0][island].max() == 0


def test_no_seam_where_the_weight_ends(found, case):
    avatar = case[0]
    log = (found.avatar.maps.diffuse / avatar.maps.diffuse).clamp(min=1e-3).log().mean(1, keepdim=True)
    step = F.pad(
        (log[..., 1:, 1:] - log[..., 1:, :-1]).abs() + (log[..., 1:, 1:] - log[..., :-1, 1:]).abs(), (1, 0, 1, 0)
    )
    inside, border = step[found.weight > 0.95], step[(found.weight > 0.02) & (found.weight < 0.6)]
    assert border.quantile(0.95) <= inside.quantile(0.95)
    assert border.max() <= inside.max() * 1.1


def test_a_cast_shadow_does_not_stay(case):
    avatar, truth, photo, scene = case
    x = torch.arange(PHOTO).view(1, 1, 1, -1)
    shadow = 1 - 0.5 * torch.sigmoid((x - PHOTO * 0.47) / 2)
    from fitdiff_core.image import srgb_to_linear

    dark = linear_to_srgb(srgb_to_linear(photo) * shadow)
    free = torch.ones_like(photo[:, :1])
    seen = unwrap(avatar, scene, dark, free, SIZE)
    clean = unwrap(avatar, scene, photo, free, SIZE)
    where = (clean.weight > 0.9)[0, 0] & (avatar.head.region("face", SIZE) > 0.9)
    left = ((seen.radiance + 1e-3) / (clean.radiance + 1e-3)).log().mean(1)[0]  # the shadow itself, in the atlas
    lit, dim = where & (left > -0.05), where & (left < -0.6)
    assert lit.sum() > 500 and dim.sum() > 500

    def contrast(diffuse):
        d = (diffuse / truth).clamp(min=1e-3).log().mean(1)[0]
        return abs(float(d[lit].mean() - d[dim].mean()))

    kept = contrast(photo_detail(None, avatar, scene, dark, free, mirror=0.0).avatar.maps.diffuse)
    assert kept < 0.15 * abs(float(left[lit].mean() - left[dim].mean()))


def test_strength_blends_from_none_to_all(case, found):
    avatar, _, photo, scene = case
    none = photo_detail(None, avatar, scene, photo, strength=0.0)
    assert torch.equal(none.avatar.maps.stack(), avatar.maps.stack()) and none.weight.max() == 0
    half = photo_detail(None, avatar, scene, photo, torch.ones_like(photo[:, :1]), 0.5, mirror=0.0)
    middle = (found.avatar.maps.diffuse + avatar.maps.diffuse) / 2
    assert torch.allclose(half.avatar.maps.diffuse, middle, atol=1e-5)
    assert torch.allclose(half.weight, found.weight / 2, atol=1e-6)


def test_sizes_shape_and_the_other_maps(case):
    avatar, _, photo, scene = case
    before = avatar.maps.stack().clone()
    out = photo_detail(None, avatar, scene, photo, texture_size=384)
    assert out.avatar.maps.size == (384, 384) and out.weight.shape == (1, 1, 384, 384)
    assert out.avatar.shape is avatar.shape and torch.equal(avatar.maps.stack(), before)
    assert torch.allclose(out.avatar.maps.specular, avatar.maps.resize(384).specular, atol=1e-5)
    assert torch.allclose(out.avatar.maps.normal, avatar.maps.resize(384).normal, atol=1e-5)


def test_a_mask_keeps_the_photo_out(case):
    avatar, _, photo, scene = case
    mask = torch.ones_like(photo[:, :1])
    mask[..., : PHOTO // 2, :] = 0
    position, _ = avatar.head.uv_positions(avatar.vertices(scene), SIZE)
    y = scene.camera.project(position.flatten(2).mT, scene.size)[0, :, 1].view(SIZE, SIZE)
    weight = photo_detail(None, avatar, scene, photo, mask).weight[0, 0]
    assert weight[y < 126].max() == 0 and weight[y > 140].max() > 0.9


def test_the_hidden_cheek_has_the_seen_one_s_detail(case):
    avatar, _, photo, scene = case
    free = torch.ones_like(photo[:, :1])
    lone, both = (photo_detail(None, avatar, scene, photo, free, mirror=m) for m in (0.0, 1.0))
    new = (both.avatar.maps.diffuse - lone.avatar.maps.diffuse).abs().mean(1)[0]
    seen = lone.weight[0, 0]
    other = (seen.flip(1) > 0.9) & (seen == 0)
    assert other.sum() > 300 and new[other].mean() > 5 * new[seen > 0.99].mean()


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda a, s, p: (a, replace(s, crop=None), p, None, 1.0), "not fitted to a photo"),
        (lambda a, s, p: (Avatar(a.head, a.shape.expand(2, -1), a.maps), s, p, None, 1.0), "one head"),
        (lambda a, s, p: (a, s, p.expand(2, -1, -1, -1), None, 1.0), "one photo"),
        (lambda a, s, p: (a, s, p, None, 1.5), "strength"),
        (lambda a, s, p: (a, s, p, None, float("nan")), "strength"),
        (lambda a, s, p: (a, s, p, torch.ones(1, 1, 9, 9), 1.0), "mask"),
        (lambda a, s, p: (a, s, p * float("nan"), None, 1.0), "NaN"),
        (
            lambda a, s, p: (replace(a, maps=replace(a.maps, diffuse=a.maps.diffuse / 0 * 0)), s, p, None, 1.0),
            "maps hold NaN",
        ),
        (lambda a, s, p: (a, replace(s, crop=s.crop + torch.tensor([0, 0, 900.0])), p, None, 1.0), "outside the photo"),
    ],
)
def test_what_does_not_fit_is_a_user_error(case, change, says):
    avatar, _, photo, scene = case
    with pytest.raises(UserError, match=says):
        photo_detail(None, *change(avatar, scene, photo))


def test_multiband_keeps_what_is_far_from_the_border():
    g = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 1, 3, 256, 256, generator=g).unbind(0)
    w = torch.zeros(1, 1, 256, 256)
    w[..., 128:] = 1
    out = multiband(a, b, w, 3)
    assert torch.allclose(out[..., :60], b[..., :60], atol=1e-5) and torch.allclose(
        out[..., -60:], a[..., -60:], atol=1e-5
    )
    # a step of tone is spread over many texels
    flat = multiband(a * 0 + 1, b * 0, w, 5)
    assert (flat[..., 1:] - flat[..., :-1]).abs().max() < 0.1


def test_the_edge_aware_filter_keeps_edges():
    x = torch.zeros(1, 1, 256, 256)
    x[..., 128:] = 1
    wiggle = 0.05 * torch.sin(torch.arange(256) * 1.0).view(1, 1, 1, -1)
    one = torch.ones_like(x)
    kept = guided_filter(x + wiggle, one, 6, 0.3)
    assert (
        kept[..., 150:240].std() < 0.01 and (kept[..., 140] - kept[..., 115]).mean() > 0.85
    )  # the step stays, the wiggle goes
    half = one.clone()
    half[..., 128:] = 0
    assert (
        normalized_convolution(x + 2, half, 10)[..., :120].sub(2).abs().max() < 0.01
    )  # what weighs nothing does not count
    inner = erode_and_feather(half, 3, 10)
    assert inner[..., 128:].max() == 0 and inner[..., 40:-40, 40:100].min() > 0.95 and inner[..., 126].max() < 0.1


def test_known_cells_stay():
    known, share = torch.full((1, 3, 4, 4), 2.0), torch.zeros(1, 3, 4, 4)
    share[..., :2] = 1
    out = KnownCells(lambda x, sigma: x * 0 - 1, known, share)(torch.randn(1, 3, 4, 4), torch.ones(1))
    assert (out[..., :2] == 2).all() and (out[..., 2:] == -1).all()


def test_the_shipped_model_fills_what_is_hidden():
    """A face with a blue half: seen as known it stays, told to be hidden it is painted over as skin."""
    model = pipeline.load_model()
    avatar = pipeline.decode(model, pipeline.sample(model, steps=8, sampler="dpmpp_2m")[0])
    diffuse = avatar.maps.diffuse.clone()
    weight = torch.ones_like(diffuse[:, :1])
    weight[..., 256:] = 0
    skin = fillable(avatar.head, 512).expand_as(diffuse)[..., 300:] > 0.9
    blue = torch.where(weight > 0, diffuse, diffuse * torch.tensor([0.7, 0.9, 1.3]).view(1, 3, 1, 1))
    maps = replace(avatar.maps, diffuse=blue)

    def error(filled):
        return float((filled.diffuse - diffuse)[..., 300:][skin].abs().mean())

    kept, painted = (
        inpaint(model, maps, w, avatar.shape, steps=6, start=3.0) for w in (torch.ones_like(weight), weight)
    )
    assert painted.size == (512, 512) and error(painted) < 0.75 * error(kept)
    assert (painted.diffuse - diffuse)[..., 60:200, 60:200].abs().mean() < 0.02
    assert torch.equal(
        painted.diffuse, inpaint(model, maps, weight, avatar.shape, steps=6, start=3.0).diffuse
    )  # a seed names a result


def test_hair_from_the_hairline_goes_and_a_dark_cheek_spot_stays(case):
    from fitdiff_core.detail.add import plain_skin, regions
    from fitdiff_core.detail.hair_mask import find_hair, remove_hair

    head, size = case[0].head, SIZE
    skin, face = plain_skin(head, size), regions(head, ("face",), size)
    scalp = regions(head, ("scalp",), size)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    lowest = int(
        rows[(scalp[0, 0] > 0.5) & (columns > size * 0.55) & (columns < size * 0.75) & (rows < size / 2)].max()
    )
    fringe = ((rows < lowest + 15) & (columns > size * 0.55) & (columns < size * 0.75))[None, None].float() * face
    spot = ((rows - size * 0.6) ** 2 + (columns - size * 0.3) ** 2 < 8**2)[None, None].float() * skin
    assert fringe.sum() > 100 and spot.sum() > 50
    albedo = SKIN * (1 - 0.8 * torch.maximum(fringe, spot))
    one = torch.ones_like(skin)
    hair = find_hair(albedo, skin, one, one, scalp, face)
    inside = (fringe * skin) > 0.9
    assert hair[inside].mean() > 0.9 and hair[spot > 0.9].max() < 0.05
    clean = remove_hair(maps_of(albedo), hair, face, one).diffuse
    assert (clean / SKIN)[inside.expand_as(clean)].quantile(0.05) > 0.8
