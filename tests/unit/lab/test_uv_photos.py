"""The delighting network's data and training: things before a face, the coarse atlas, one step of training."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fitdiff_core.delight.classes import CLASSES, GLASSES, HAIR, OTHER, SKIN
from fitdiff_core.delight.network import COARSE, Delighter, coarse_photo
from fitdiff_core.delight.unwrapping import SIZE, CoarseUnwrapper
from fitdiff_core.errors import UserError
from fitdiff_core.render import interpolate, rasterize
from fitdiff_core.render.orientation import raster_to_image
from fitdiff_core.scene import Scene
from fitdiff_lab.dataset.uv_photos import PairMaker, atlas_places, load_pairs
from fitdiff_lab.evaluate.bands import Areas, figures
from fitdiff_lab.synthetic import occluders as draw
from fitdiff_lab.train import delighter

PIXELS = 128


@pytest.fixture(scope="module")
def portrait(head):
    """(vertices, camera) of the mean head, from the front."""
    scene = Scene.portrait(1)
    return head(torch.zeros(1, head.n_identity), scene.expression, scene.gaze), scene.camera


THINGS = [
    draw.spectacles,
    lambda image, s: draw.spectacles(image, s, dark=True),
    draw.strands,
    lambda image, s: draw.strands(image, s, fringe=True),
    draw.hand,
    draw.face_mask,
    draw.hat,
    draw.thing,
]


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_thing_changes_the_picture_where_its_mask_says(head, portrait, thing, seed):
    vertices, camera = portrait
    sitter = draw.Sitter(head.landmarks(vertices, "68")[0], camera, torch.ones(3), np.random.default_rng(seed))
    image = torch.full((1, 3, PIXELS, PIXELS), 0.3)
    found, mask = thing(image, sitter)
    assert found.shape == image.shape and mask.shape == (1, 1, PIXELS, PIXELS)
    assert torch.isfinite(found).all() and (found >= 0).all() and mask.min() >= 0 and mask.max() <= 1
    assert 0.0005 < mask.mean() < 0.7
    assert torch.equal(thing(image, replace_rng(sitter, seed))[0], found)  # the same chance, the same thing


def replace_rng(sitter, seed):
    return draw.Sitter(sitter.points, sitter.camera, sitter.lit, np.random.default_rng(seed))


def test_texels_get_what_the_picture_shows_of_them(head, portrait):
    """A picture of the atlas' own places comes back as those places."""
    vertices, camera = portrait
    tri = head.triangles.long()
    rast = rasterize(camera.clip(vertices, 1.0), tri, (256, 256))
    uv = raster_to_image(interpolate(head.uv[None], rast, tri))
    picture = torch.cat([torch.full((1, 3, 256, 256), 0.5), uv], 1)
    photo = CoarseUnwrapper(head)(picture, torch.ones(1, 1, 256, 256), vertices, camera)
    place = atlas_places(SIZE).permute(0, 3, 1, 2)
    error = torch.stack([photo.colour[:, 3] - place[:, 0], (1 - photo.colour[:, 4]) - place[:, 1]], 1).norm(dim=1)
    face = torch.as_tensor(head.region("face", SIZE))[None] > 0.9
    seen = (photo.seen[:, 0] > 0.99) & (photo.facing[:, 0] > 0.5) & face
    assert seen.sum() > 0.6 * face.sum()
    assert error[seen].quantile(0.95) < 0.01
    length = photo.normal.norm(dim=1)[seen]
    assert torch.allclose(length, torch.ones_like(length), atol=1e-4)


def random_pairs(n: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)

    def byte(*shape):
        return torch.randint(1, 256, (n, *shape), generator=g).to(torch.uint8)

    def log(*shape):
        return (torch.randn(n, *shape, generator=g) * 0.1 - 1.5).half()

    return {
        "colour": byte(3, SIZE, SIZE),
        "seen": byte(1, SIZE, SIZE),
        "facing": byte(1, SIZE, SIZE),
        "normal": (byte(3, COARSE, COARSE).int() - 128).to(torch.int8),
        "albedo": log(3, COARSE, COARSE),
        "prior": log(3, COARSE, COARSE),
        "classes": torch.randint(len(CLASSES), (n, 1, SIZE, SIZE), generator=g).to(torch.uint8),
    }


def test_the_network_begins_with_the_priors_albedo():
    b = delighter.Batch.take(random_pairs(2), torch.arange(2))
    net = Delighter()
    with torch.no_grad():
        answer = net(b.colour, b.seen, b.facing, b.normal, b.prior)
    assert answer.residual.shape == (2, 3, COARSE, COARSE) and answer.residual.abs().mean() < 0.15
    assert answer.classes.shape == (2, len(CLASSES), SIZE, SIZE)
    assert sum(p.numel() for p in net.parameters()) < 1_000_000


def test_unseen_texels_tell_nothing():
    b = delighter.Batch.take(random_pairs(1), torch.arange(1))
    seen = b.seen.clone()
    seen[..., : SIZE // 2] = 0
    changed = b.colour.clone()
    changed[..., : SIZE // 2] = 1
    one, other = (coarse_photo(x * (seen > 0), seen)[0] for x in (b.colour, changed))
    assert torch.equal(one, other) and not one[..., : COARSE // 2].any()


def test_the_mirror_image_of_a_mirror_image_is_the_pair():
    b = delighter.Batch.take(random_pairs(1), torch.arange(1))
    for own, twice in zip(vars(b).values(), vars(b.mirrored().mirrored()).values(), strict=True):
        assert torch.equal(own, twice)


def test_what_hides_the_skin_is_hair_glasses_and_other_things():
    classes = torch.tensor([[[SKIN, HAIR], [GLASSES, OTHER]]])
    assert delighter.hiding(classes).tolist() == [[[[0, 1], [1, 1]]]]


def test_training_goes_on_where_it_stopped_and_writes_weights(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        save_file(random_pairs(3), tmp_path / name / "pairs-00000.safetensors")
    out = tmp_path / "run"
    options = ["--data", str(tmp_path), "--out", str(out), "--batch", "2", "--precision", "fp32", "--threads", "1"]
    assert delighter.main([*options, "--steps", "2"]) == 0
    assert delighter.main([*options, "--steps", "2"]) == 0  # done already
    with safe_open(out / "delighter.safetensors", "pt") as f:
        metadata, stem = f.metadata(), f.get_tensor("stem.weight")
    assert metadata["format"] == delighter.FORMAT and stem.dtype == torch.float16
    assert json.loads(metadata["training"])["steps"] == 2
    assert (out / "delighter.safetensors").stat().st_size < 2_500_000


def test_no_pairs_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="uv_photos"):
        load_pairs(tmp_path)


def test_figures_of_the_truth_are_perfect(head):
    g = torch.Generator().manual_seed(1)
    truth = torch.rand(1, 3, 256, 256, generator=g) * 0.3 + 0.2
    seen, none = torch.ones(256, 256, dtype=torch.bool), torch.zeros(256, 256, dtype=torch.bool)
    same, darker = (figures(x, truth, seen, none, Areas(head)) for x in (truth, truth * 0.7))
    assert same["dE"] == pytest.approx(0, abs=1e-4) and same["detail"] == pytest.approx(1, abs=1e-3)
    assert darker["dE"] > 5 and darker["after gain"] < 0.2 and darker["blotch"] < 1e-3


@pytest.mark.slow
def test_a_pair_is_always_the_same_and_laid_out_as_the_photo():
    first, again = PairMaker(5).pair(3), PairMaker(5).pair(3)
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
    assert first["colour"].shape == (1, 3, SIZE, SIZE) and first["classes"].max() < len(CLASSES)
    seen = first["seen"][0, 0] > 200
    assert 0.05 < seen.float().mean() < 0.9
