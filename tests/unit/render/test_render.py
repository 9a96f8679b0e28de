import gc
import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from fitdiff_core.maps import TextureMaps
from fitdiff_core.render import Camera, Light, render, tangents, vertex_normals
from fitdiff_core.render.camera import rotation_matrix
from fitdiff_core.render.light import Y00
from tests.support.meshes import PlainHead, ball_head, front_uv, sphere

D = torch.float64


def plain_maps(diffuse=1.0, specular=0.0, size=16, dtype=D, batch=1):
    normal = torch.zeros(batch, 3, size, size, dtype=dtype)
    normal[:, 2] = 1
    return TextureMaps(torch.full_like(normal, diffuse), torch.full_like(normal, specular), normal)


def random_maps(size=16, batch=1, seed=0):
    g = torch.Generator().manual_seed(seed)
    normal = F.normalize(
        torch.randn(batch, 3, size, size, generator=g, dtype=D) * 0.2 + torch.tensor([0, 0, 1.0]).view(3, 1, 1), dim=1
    )
    return TextureMaps(*torch.rand(2, batch, 3, size, size, generator=g, dtype=D), normal)


def white_light(dtype=D):
    sh = torch.zeros(1, 9, 3, dtype=dtype)
    sh[:, 0] = 1 / Y00
    return Light(sh, torch.zeros(1, 0, 3, dtype=dtype), torch.zeros(1, 0, 3, dtype=dtype))


def test_white_furnace_picture():
    """Albedo 1, light 1 from everywhere, no gloss: the head vanishes before a white background."""
    vertices, head = ball_head()
    out = render(vertices, head, plain_maps(), Camera.orbit().to(D), white_light(), (48, 48), background=(1, 1, 1))
    torch.testing.assert_close(out.image, torch.ones_like(out.image), atol=1e-6, rtol=0)
    assert 0.3 < out.mask.mean() < 0.6


def test_outputs_and_orientation():
    vertices, head = ball_head(dtype=torch.float32)
    vertices = vertices + torch.tensor([0.03, 0.05, 0.0])
    lamp = Light(torch.zeros(1, 9, 3), torch.tensor([[[0.0, 1.0, 0]]]), torch.ones(1, 1, 3))
    out = render(vertices, head, plain_maps(0.5, 0.3, dtype=torch.float32), Camera.orbit(), lamp, (40, 60))
    assert out.image.shape == (1, 3, 40, 60) and out.mask.shape == (1, 1, 40, 60)
    assert out.normal.shape == (1, 3, 40, 60) and out.uv.shape == (1, 40, 60, 2) and out.rast.shape == (1, 40, 60, 4)
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    mask = out.mask[0, 0]
    assert (mask * y).sum() / mask.sum() < 18 and (mask * x).sum() / mask.sum() > 31, "up is up, +x is right"
    brightness = out.image[0].mean(0)
    assert (brightness * y).sum() / brightness.sum() < (mask * y).sum() / mask.sum(), "lit from above"
    seen = out.rast[0].flip(0)[..., 3] > 0
    torch.testing.assert_close(out.normal[0].norm(dim=0)[seen], torch.ones(int(seen.sum())))
    assert (out.normal[0][:, ~seen] == 0).all() and (out.uv[0][~seen] == 0).all()
    u, v = out.uv[0][seen].T
    assert v[y[seen].argmin()] > 0.85 and v[y[seen].argmax()] < 0.15, "v grows upwards"
    assert u[x[seen].argmax()] > 0.85, "u grows to the right"


def test_projection_agrees_with_the_picture():
    camera = Camera.orbit(25.0, 10.0, 0.7, 24.0).to(D)
    points = torch.tensor([[[0.05, 0.04, 0.03], [-0.06, 0.0, 0.05], [0.0, -0.07, 0.08]]], dtype=D)
    pixels = camera.project(points, (90, 120))[0]
    for point, (x, y) in zip(points[0], pixels, strict=True):
        vertices, head = ball_head(24, 16, 0.006)
        mask = render(vertices + point, head, plain_maps(), camera, white_light(), (90, 120)).mask[0, 0]
        cy, cx = (
            (mask * a).sum() / mask.sum() + 0.5
            for a in torch.meshgrid(torch.arange(90.0), torch.arange(120.0), indexing="ij")
        )
        assert abs(cx - x) < 0.15 and abs(cy - y) < 0.15


def test_camera_orbit():
    camera = Camera.orbit(torch.tensor([0.0, 90.0, 180.0, 30.0]), torch.tensor([0.0, 0.0, 0.0, 40.0]), target=(0, 0, 0))
    expected = torch.tensor([[0, 0, 0.8], [0.8, 0, 0], [0, 0, -0.8]])
    torch.testing.assert_close(camera.position()[:3], expected, atol=1e-6, rtol=0)
    assert camera.position()[3, 0] > 0.2 and camera.position()[3, 1] > 0.5
    target = torch.tensor([0.01, 0.02, 0.03])
    camera = Camera.orbit(torch.tensor([-120.0, 15.0]), 12.0, 0.5, 30.0, target)
    torch.testing.assert_close(
        camera.view(target.expand(2, 1, 3))[:, 0], torch.tensor([[0, 0, -0.5]]).expand(2, 3), atol=1e-6, rtol=0
    )
    assert (camera.view((target + torch.tensor([0, 0.1, 0])).expand(2, 1, 3))[:, 0, 1] > 0.05).all(), "upright"
    assert len(camera) == 2 and len(camera[1]) == 1
    edge = math.tan(math.radians(15)) * 0.5
    up = camera.matrix().mT @ torch.tensor([0, edge, 0.0])
    torch.testing.assert_close(
        camera.project((target + up)[:, None], (100, 80))[:, 0],
        torch.tensor([[40.0, 0.0]]).expand(2, 2),
        atol=1e-3,
        rtol=0,
    )


def test_camera_gradient():
    g = torch.Generator().manual_seed(0)
    points = torch.randn(2, 5, 3, generator=g, dtype=D, requires_grad=True)
    for scale in (0.0, 0.7):
        parameters = [
            torch.tensor([4.0, 5.0], dtype=D),
            torch.randn(2, 3, generator=g, dtype=D) * scale,
            torch.randn(2, 3, generator=g, dtype=D) * 0.1 - torch.tensor([0, 0, 6.0], dtype=D),
        ]
        for p in parameters:
            p.requires_grad_()
        # z of clip space follows the near plane, which is held still
        assert gradcheck(lambda p, *c: Camera(*c).clip(p, 1.3)[..., [0, 1, 3]], (points, *parameters))
        assert gradcheck(lambda p, *c: Camera(*c).project(p, (64, 48)), (points, *parameters))
        assert gradcheck(lambda *c: Camera(*c).position(), parameters)
        assert gradcheck(lambda *c: Camera(*c).rays((3, 4)), parameters)
    angles = [torch.tensor([v, v], dtype=D, requires_grad=True) for v in (20.0, -10.0, 0.9, 25.0)]
    assert gradcheck(lambda *a: Camera.orbit(*a).rotation, angles)
    assert gradcheck(lambda *a: Camera.orbit(*a).translation, angles)


def test_rotation_matrix():
    axis = torch.tensor([[0.0, 0, 0], [1e-9, 0, 0], [1e-4, 2e-4, 0], [0.3, -2.0, 1.0]], dtype=D)
    torch.testing.assert_close(
        rotation_matrix(axis),
        torch.linalg.matrix_exp(
            torch.stack([torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=D) for x, y, z in axis])
        ),
    )


def test_vertex_normals_and_tangents():
    vertices, tri = sphere(60, 40)
    squeezed = vertices * torch.tensor([1.0, 1.3, 0.8], dtype=D)
    normals = vertex_normals(squeezed[None], tri)
    exact = F.normalize(vertices / torch.tensor([1.0, 1.3, 0.8], dtype=D), dim=-1)
    assert (normals[0] * exact).sum(-1).min() > math.cos(math.radians(2))
    uv = front_uv(vertices)
    frames = tangents(squeezed[None], uv, tri)
    assert (frames[..., :3] * normals).sum(-1).abs().max() < 1e-9
    torch.testing.assert_close(frames[..., :3].norm(dim=-1), torch.ones_like(frames[..., 0]))
    front, back = vertices[:, 2] > 0.2, vertices[:, 2] < -0.2
    assert (frames[0, front, 3] == 1).all() and (frames[0, back, 3] == -1).all(), "the back is mirrored in this uv"
    bitangent = torch.linalg.cross(normals, frames[..., :3]) * frames[..., 3:]
    wanted = torch.tensor([0.0, 1, 0], dtype=D) - normals * normals[..., 1:2]  # v is y here
    # exactly so where u and v are at right angles on the surface: near the middle
    middle = vertices[:, 2] > 0.9
    assert F.cosine_similarity(bitangent, wanted, -1)[0, middle].min() > 0.99
    small = sphere(6, 4)
    uv = torch.rand(len(small[0]), 2, generator=torch.Generator().manual_seed(0), dtype=D)
    assert gradcheck(lambda v: vertex_normals(v, small[1]), (small[0][None].requires_grad_(),))
    assert gradcheck(lambda v: tangents(v, uv, small[1]), (small[0][None].requires_grad_(),))


def angle_weighted_tangents(vertices, uv, tri, normals):
    """MikkTSpace's sum: unit face tangents in the vertex plane, weighted by corner angle."""
    total = torch.zeros_like(vertices)
    p, q = vertices[tri], uv[tri]
    d1, d2 = q[:, 1] - q[:, 0], q[:, 2] - q[:, 0]
    along = (p[:, 1] - p[:, 0]) * d2[:, 1:] - (p[:, 2] - p[:, 0]) * d1[:, 1:]
    along = along * (d1[:, :1] * d2[:, 1:] - d1[:, 1:] * d2[:, :1]).sign()
    for k in range(3):
        a, b = p[:, (k + 1) % 3] - p[:, k], p[:, (k + 2) % 3] - p[:, k]
        angle = torch.arccos(F.cosine_similarity(a, b, -1))
        n = normals[tri[:, k]]
        flat = F.normalize(along - n * (along * n).sum(-1, keepdim=True), dim=-1)
        total.index_add_(0, tri[:, k], flat * angle[:, None])
    return F.normalize(total, dim=-1)


def test_tangents_match_mikktspace():
    vertices, tri = sphere(60, 40)
    vertices = vertices * (1 + 0.1 * torch.sin(7 * vertices[:, :1]) * torch.cos(6 * vertices[:, 1:2]))
    uv, normals = front_uv(vertices), vertex_normals(vertices[None], tri)[0]
    front = vertices[:, 2] > 0.45
    agreement = (tangents(vertices[None], uv, tri)[0, :, :3] * angle_weighted_tangents(vertices, uv, tri, normals)).sum(
        -1
    )
    assert agreement[front].min() > math.cos(math.radians(3))


def test_mesh_without_uv_has_finite_frames():
    vertices, tri = sphere(8, 6)
    vertices = vertices[None].requires_grad_()
    frames = tangents(vertices, torch.zeros(vertices.shape[1], 2, dtype=D), tri)
    frames.sum().backward()
    assert torch.isfinite(frames).all() and torch.isfinite(vertices.grad).all()
    torch.testing.assert_close(frames[..., :3].norm(dim=-1), torch.ones(1, vertices.shape[1], dtype=D))


def test_normal_map_directions():
    """Red tips the normal towards growing u (+x here), green towards growing v (+y)."""
    vertices, head = ball_head()
    flat = render(vertices, head, plain_maps(), Camera.orbit().to(D), white_light(), (33, 33)).normal[0, :, 16, 16]
    for channel, axis in [(0, 0), (1, 1)]:
        maps = plain_maps()
        maps.normal[:, channel] = 0.6
        maps.normal[:, 2] = 0.8
        tipped = render(vertices, head, maps, Camera.orbit().to(D), white_light(), (33, 33)).normal[0, :, 16, 16]
        change = tipped - flat
        assert change[axis] > 0.5 and change[1 - axis].abs() < 0.1


def test_batch_entries_are_independent():
    vertices, head = ball_head(24, 16)
    vertices = torch.cat([vertices, vertices * 0.7, vertices * torch.tensor([1, 1.2, 1], dtype=D)])
    maps, light = random_maps(64, 3), Light.studio(3).to(D)
    light.sh[1] *= 0.5
    camera = Camera.orbit(torch.tensor([0.0, 30.0, -40.0], dtype=D), fov_deg=torch.tensor([20.0, 8.0, 40.0], dtype=D))
    together = render(vertices, head, maps, camera, light, (20, 24), background=(0.2, 0.3, 0.4))
    for i in range(3):
        alone = render(vertices[i : i + 1], head, maps[i], camera[i], light[i], (20, 24), background=(0.2, 0.3, 0.4))
        for name in ("image", "mask", "normal", "uv", "rast"):
            torch.testing.assert_close(getattr(together, name)[i : i + 1], getattr(alone, name), atol=1e-12, rtol=1e-9)
    shared = render(vertices, head, maps[0], camera[0], light[0], (20, 24))
    assert shared.image.shape == (3, 3, 20, 24)


def test_nothing_in_view():
    vertices, head = ball_head(12, 8)
    vertices.requires_grad_()
    out = render(
        vertices + 50, head, plain_maps(), Camera.orbit().to(D), white_light(), (16, 16), background=(0.5, 0, 0)
    )
    assert (out.mask == 0).all() and (out.image[:, 0] == 0.5).all()
    out.image.sum().backward()
    assert (vertices.grad == 0).all()


def test_camera_inside_the_head_is_survived():
    vertices, head = ball_head(24, 16)
    vertices.requires_grad_()
    camera = Camera.orbit(distance_m=0.05, target=(0, 0, 0)).to(D)
    out = render(vertices, head, plain_maps(), camera, white_light(), (16, 16))
    out.image.sum().backward()
    assert torch.isfinite(out.image).all() and torch.isfinite(vertices.grad).all()


def test_background_picture_and_occlusion():
    vertices, head = ball_head(24, 16)
    picture = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0), dtype=D)
    camera, light = Camera.orbit().to(D), white_light()
    out = render(vertices, head, plain_maps(), camera, light, (20, 20), background=picture)
    outside = (out.mask == 0).expand_as(picture)
    assert torch.equal(out.image[outside], picture[outside])
    dark = PlainHead(**vars(head) | {"occlusion": torch.full((vertices.shape[1],), 0.25)})
    shaded = render(vertices, dark, plain_maps(), camera, light, (20, 20))
    torch.testing.assert_close(shaded.image[0, :, 10, 10], torch.full((3,), 0.25, dtype=D))
    gloss = [render(vertices, h, plain_maps(0, 0.5), camera, light, (20, 20)).image[0, :, 10, 10] for h in (head, dark)]
    torch.testing.assert_close(gloss[1], gloss[0] * 0.25**2)


def test_roughness_of_the_head_is_used():
    vertices, head = ball_head(48, 32)
    lamp = Light(torch.zeros(1, 9, 3, dtype=D), torch.tensor([[[0.0, 0, 1]]], dtype=D), torch.ones(1, 1, 3, dtype=D))
    peaks = []
    for rough in (0.15, 0.45, 0.8):
        glossy = PlainHead(**vars(head) | {"roughness": torch.full((vertices.shape[1],), rough)})
        peaks.append(
            render(vertices, glossy, plain_maps(0, 0.5), Camera.orbit().to(D), lamp, (33, 33)).image.max().item()
        )
    plain = render(vertices, head, plain_maps(0, 0.5), Camera.orbit().to(D), lamp, (33, 33)).image.max().item()
    assert peaks[0] > 5 * peaks[1] > 5 * peaks[2] and plain == pytest.approx(peaks[1])


def test_whole_render_gradient():
    """Every parameter of a picture at once, antialiasing included."""
    vertices, head = ball_head(10, 7)
    maps, light, camera = random_maps(4), Light.preset("rim").to(D), Camera.orbit(20.0, 8.0).to(D)
    light.sh[:] += 0.05 * torch.randn(1, 9, 3, generator=torch.Generator().manual_seed(1), dtype=D)
    leaves = [
        vertices,
        maps.diffuse,
        maps.specular,
        maps.normal,
        camera.focal,
        camera.rotation,
        camera.translation,
        light.sh,
        light.direction,
        light.color,
    ]
    leaves = [x.clone().requires_grad_() for x in leaves]

    def picture(v, d, s, n, f, r, t, sh, to, c):
        return render(v, head, TextureMaps(d, s, n), Camera(f, r, t), Light(sh, to, c), (7, 6), (0.1, 0.2, 0.3)).image

    assert gradcheck(picture, leaves, eps=1e-7, atol=1e-4)


def test_edge_tables_follow_the_triangles():
    """A cache must not hand the edges of one mesh to another, nor keep a mesh alive."""
    vertices, head = ball_head(12, 8)
    args = (plain_maps(), Camera.orbit().to(D), white_light(), (24, 24))
    first = render(vertices, head, *args).mask
    other, tri = sphere(20, 14, 0.1)
    head = PlainHead(tri, front_uv(other))
    changed = render(other[None], head, *args).mask
    fresh = render(other[None], PlainHead(tri.clone(), head.uv), *args).mask
    assert torch.equal(changed, fresh) and not torch.equal(first, changed)
    gone = weakref.ref(tri)
    del tri, head
    gc.collect()
    assert gone() is None


def test_gradients_after_inference_mode():
    """Hosts load and render under inference mode; guidance then needs gradients of the same head."""
    with torch.inference_mode():
        vertices, head = ball_head(24, 16)
        render(vertices, head, plain_maps(), Camera.orbit().to(D), white_light(), (20, 20))
    leaf = vertices.clone().requires_grad_()
    out = render(leaf, head, random_maps(), Camera.orbit().to(D), Light.studio().to(D), (20, 20))
    (out.image.sum() + out.mask.sum()).backward()
    assert leaf.grad.abs().sum() > 0
