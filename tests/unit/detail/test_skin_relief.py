"""The relief of the skin: deterministic, by region, limited to what the texels can show."""

from dataclasses import replace

import pytest
import torch

from fitdiff_core.avatar import Avatar
from fitdiff_core.detail.mesostructure import albedo_height, bend, kept, noise_height, skin_relief
from fitdiff_core.detail.skin_regions import SkinTexels
from fitdiff_core.detail.solid_noise import Lattice, cell_borders, pits, value_noise
from fitdiff_core.errors import UserError
from fitdiff_core.head import load_head
from fitdiff_core.head.places import FacePlaces
from fitdiff_core.maps import TextureMaps

SIZE = 512


@pytest.fixture(scope="module")
def plain():
    """The mean head in even skin with flat normals."""
    head = load_head()
    diffuse = torch.tensor([0.42, 0.26, 0.19]).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE).clone()
    normal = torch.zeros_like(diffuse)
    normal[:, 2] = 1
    return Avatar(head, torch.zeros(1, head.n_identity), TextureMaps(diffuse, torch.full_like(diffuse, 0.34), normal))


@pytest.fixture(scope="module")
def relief(plain):
    return skin_relief(plain, seed=3).maps


@pytest.fixture(scope="module")
def texels(plain):
    return SkinTexels.bake(plain.vertices()[0], plain.head, SIZE)


@pytest.fixture(scope="module")
def places(plain, texels):
    return FacePlaces.of(texels.position, plain.head.landmarks(plain.vertices())[0])


def cheek(texels, places):
    """A square `[64, 64]` of the atlas around the middle of a cheek, as slices."""
    row, column = divmod(int(texels.index[(places.cheeks * texels.skin).argmax()]), SIZE)
    return slice(row - 32, row + 32), slice(column - 32, column + 32)


def test_the_same_seed_gives_the_same_maps_and_another_seed_others(plain, relief):
    again, other = skin_relief(plain, seed=3).maps, skin_relief(plain, seed=4).maps
    assert torch.equal(again.stack(), relief.stack())
    assert (other.normal - relief.normal).abs().mean() > 0.5 * (relief.normal - plain.maps.normal).abs().mean() > 0


def test_entry_i_of_a_batch_takes_seed_plus_i(plain, relief):
    two = Avatar(
        plain.head, plain.shape.expand(2, -1), TextureMaps.from_stack(plain.maps.stack().expand(2, -1, -1, -1))
    )
    maps = skin_relief(two, seed=2).maps
    assert torch.equal(maps.normal[1:], relief.normal) and not torch.equal(maps.normal[:1], relief.normal)


def test_strength_0_is_the_head_as_it_is(plain):
    assert torch.equal(skin_relief(plain, 0.0).maps.stack(), plain.maps.stack())
    assert skin_relief(plain, 0.0, texture_size=64).maps.size == (64, 64)


def test_normals_have_unit_length_and_slopes_grow_with_the_strength(plain, relief):
    assert torch.allclose(relief.normal.norm(dim=1), torch.ones(1, SIZE, SIZE), atol=1e-5)
    assert (relief.normal[:, 2] > 0.5).all()
    weak = skin_relief(plain, 0.25, seed=3).maps
    ratio = weak.normal[:, :2].abs().mean() / relief.normal[:, :2].abs().mean()
    assert 0.2 < ratio < 0.3


def test_only_skin_changes(plain, relief):
    changed = (relief.normal != plain.maps.normal).any(1)[0] | (relief.specular != plain.maps.specular).any(1)[0]
    for name in ("eyes", "iris", "teeth"):
        assert not changed[plain.head.region(name, SIZE) > 0].any()
    for name in ("mouth_interior", "scalp"):
        assert not changed[plain.head.region(name, SIZE) > 0.995].any()
    for name in ("nose", "lips", "face"):
        assert changed[plain.head.region(name, SIZE) > 0.9].float().mean() > 0.8
    assert torch.equal(relief.diffuse, plain.maps.diffuse)


def test_deep_places_lose_specular_albedo_and_no_place_gains_any(plain, relief):
    loss = 1 - relief.specular / plain.maps.specular
    assert loss.min() >= 0 and 0.02 < loss.max() <= 0.35


def too_fine(normal, window):
    """Share of a normal map's energy that is finer than 2.2 texels, along rows or columns, in a window `[64, 64]`."""
    taper = torch.hann_window(64)[:, None] * torch.hann_window(64)
    power = torch.fft.fft2(normal[0, :2][(slice(None), *window)] * taper).abs().square().sum(0)
    f = torch.fft.fftfreq(64).abs()
    return float(power[torch.maximum(f[:, None], f) > 1 / 2.2].sum() / power.sum())


def test_small_maps_hold_nothing_finer_than_their_texels_show(plain, relief, texels, places):
    window = cheek(texels, places)
    assert relief.normal[0, :2][(slice(None), *window)].std() > 0.005
    assert too_fine(relief.normal, window) < 0.005
    # the same measure of noise that no share has faded
    raw = 1e-5 * value_noise(texels.position, 0.5e-3, Lattice.of(0, 0))
    assert too_fine(bend(plain.maps, raw, texels).normal, window) > 0.02


def test_coarse_maps_get_no_relief_from_noise(plain):
    coarse = SkinTexels.bake(plain.vertices()[0], plain.head, 64)
    height = noise_height(coarse, FacePlaces.of(coarse.position, plain.head.landmarks(plain.vertices())[0]), 0)
    on_cheeks = FacePlaces.of(coarse.position, plain.head.landmarks(plain.vertices())[0]).cheeks > 0.5
    assert on_cheeks.any() and height[on_cheeks].abs().max() < 1e-6
    step = torch.tensor([1.0])
    assert kept(2.2, step) == 0 and kept(4.0, step) == 1 and 0 < kept(3.0, step) < 1


def test_height_depends_on_the_place_in_space_and_not_on_the_place_in_the_atlas(texels, places):
    """So charts agree where they meet."""
    order = torch.randperm(len(texels.index), generator=torch.Generator().manual_seed(0))

    def shuffled(x):
        return x[order]

    moved = replace(
        texels,
        position=texels.position[order],
        step=texels.step[order],
        skin=texels.skin[order],
        index=texels.index[order],
        regions={k: v[order] for k, v in texels.regions.items()},
    )
    there = FacePlaces(*(shuffled(getattr(places, k)) for k in ("cheeks", "chin", "forehead", "lower", "around")))
    a, b = noise_height(texels, places, 0)[order], noise_height(moved, there, 0)
    assert torch.allclose(a, b, atol=1e-9)


def test_dark_lines_lie_lower_on_skin_and_higher_in_brows(plain, texels, places):
    light = torch.full((SIZE, SIZE), 0.3)
    light[:, ::6] *= 0.7  # lines that are 3 mm apart
    height = albedo_height(texels, places, light.expand(1, 3, -1, -1))
    dark = texels.index % SIZE % 6 == 0
    skin, brow = (places.forehead > 0.5) & (texels.region("brows") < 0.01), texels.region("brows") > 0.9
    assert height[dark & skin].mean() < -1e-6 < 0 < 1e-6 < height[dark & brow].mean()
    assert height.abs().max() < 0.06e-3
    assert albedo_height(texels, places, torch.full((1, 3, SIZE, SIZE), 0.3)).abs().max() < 1e-7


def test_noise_of_a_lattice_covers_its_range_and_is_continuous():
    lattice = Lattice.of(0, 1)
    points = torch.rand(20000, 3, generator=torch.Generator().manual_seed(0)) * 0.1
    near = points + 1e-6
    radius = torch.full((len(points),), 0.45)
    for noise, low, high in (
        (lambda p: value_noise(p, 1e-3, lattice), -1, 1),
        (lambda p: cell_borders(p, 1e-3, lattice), 0, 1.8),
        (lambda p: pits(p, 1e-3, radius, lattice), 0, 1),
    ):
        x = noise(points)
        assert low <= x.min() < x.max() <= high and x.std() > 0.05
        assert (noise(near) - x).abs().max() < 0.02


def test_bad_values_are_user_errors(plain):
    for strength in (-0.1, 3.1, float("nan")):
        with pytest.raises(UserError, match="from 0 to 3"):
            skin_relief(plain, strength)
    with pytest.raises(UserError, match="at least 1"):
        skin_relief(plain, texture_size=0)
    with pytest.raises(UserError, match="NaN"):
        skin_relief(replace(plain, maps=TextureMaps.from_stack(plain.maps.stack() * float("nan"))))
