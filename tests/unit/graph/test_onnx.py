"""The ONNX interpreter against onnxruntime, and ArcFace packs made of small random networks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.face import load_detector
from fitdiff_core.graph.onnx import parse_onnx, read_signature
from fitdiff_core.graph.ops import OPS
from fitdiff_core.identity import list_packs, load_recognizer
from fitdiff_core.identity.arcface import TEMPLATE_112, template
from fitdiff_core.identity.packs import is_recognition, recognition_file
from fitdiff_core.image import load_photo
from tests.support.paths import SAMPLE

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402

from tests.support.onnx_networks import arr, iresnet, model  # noqa: E402


def run_ort(proto, x):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x.numpy()})[0]


C = 4
CONV = ("Conv", ("x", "w"), "c", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})
W = {"w": arr(C, 3, 3, 3)}
i64 = np.int64

CASES = {
    "conv_stride_group": (
        [("Conv", ("x", "w", "b"), "y", {"strides": [2, 1], "pads": [0, 1, 2, 1], "group": 3})],
        {"w": arr(6, 1, 3, 3), "b": arr(6)},
    ),
    "conv_dilated": ([("Conv", ("x", "w"), "y", {"dilations": [2, 2]})], W),
    "conv_same_upper": ([("Conv", ("x", "w"), "y", {"auto_pad": "SAME_UPPER", "strides": [2, 2]})], W),
    "conv_same_lower": ([("Conv", ("x", "w"), "y", {"auto_pad": "SAME_LOWER", "strides": [2, 2]})], W),
    "batch_norm": (
        [("BatchNormalization", ("x", "s", "b", "m", "v"), "y", {"epsilon": 2e-5})],
        {"s": arr(3), "b": arr(3, seed=1), "m": arr(3, seed=2), "v": arr(3, seed=3, positive=True)},
    ),
    "prelu": ([("PRelu", ("x", "s"), "y", {})], {"s": arr(3, 1, 1)}),
    "gemm": (
        [("Flatten", ("x",), "f", {}), ("Gemm", ("f", "w", "b"), "y", {"transB": 1, "alpha": 0.5, "beta": 2.0})],
        {"w": arr(7, 360), "b": arr(7)},
    ),
    "matmul_add": (
        [("Flatten", ("x",), "f", {}), ("MatMul", ("f", "w"), "m", {}), ("Add", ("m", "b"), "y", {})],
        {"w": arr(360, 7), "b": arr(7)},
    ),
    "residual": ([CONV, ("Relu", ("c",), "r", {}), ("Add", ("c", "r"), "y", {})], W),
    "max_pool": ([("MaxPool", ("x",), "y", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 1]})], {}),
    "average_pool": (
        [("AveragePool", ("x",), "y", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})],
        {},
    ),
    "average_pool_all": (
        [("AveragePool", ("x",), "y", {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1})],
        {},
    ),
    "global_pool": (
        [("GlobalAveragePool", ("x",), "g", {}), ("Squeeze", ("g", "a"), "y", {})],
        {"a": np.array([2, 3], i64)},
    ),
    "reduce_mean": ([("ReduceMean", ("x",), "y", {"axes": [2, 3], "keepdims": 0})], {}),
    "unit_length": (
        [("Flatten", ("x",), "f", {}), ("ReduceL2", ("f",), "n", {"axes": [1]}), ("Div", ("f", "n"), "y", {})],
        {},
    ),
    "lp_norm": ([("Flatten", ("x",), "f", {}), ("LpNormalization", ("f",), "y", {"axis": 1, "p": 2})], {}),
    "squeeze_excite": (
        [CONV, ("GlobalAveragePool", ("c",), "g", {}), ("Sigmoid", ("g",), "s", {}), ("Mul", ("c", "s"), "y", {})],
        W,
    ),
    "hard_swish_clip": (
        [
            ("HardSigmoid", ("x",), "h", {"alpha": 1 / 6}),
            ("Mul", ("x", "h"), "m", {}),
            ("Clip", ("m", "lo", "hi"), "y", {}),
        ],
        {"lo": np.float32(-0.2), "hi": np.float32(0.5)},
    ),
    "own_range": (
        [("Sub", ("x", "a"), "s", {}), ("Mul", ("s", "b"), "y", {})],
        {"a": np.float32(127.5), "b": np.float32(1 / 128)},
    ),
    "reshape_transpose": (
        [("Transpose", ("x",), "t", {"perm": [0, 2, 3, 1]}), ("Reshape", ("t", "s"), "y", {})],
        {"s": np.array([0, -1, 6], i64)},
    ),
    "pad": ([("Pad", ("x", "p", "v"), "y", {})], {"p": np.array([0, 0, 1, 2, 0, 1, 3, 0], i64), "v": np.float32(0.3)}),
    "slice_concat": (
        [("Slice", ("x", "b", "e", "a"), "s", {}), ("Concat", ("x", "s"), "y", {"axis": 3})],
        {"b": np.array([1], i64), "e": np.array([9], i64), "a": np.array([3], i64)},
    ),
    "dynamic_reshape": (
        [
            ("Shape", ("x",), "n", {}),
            ("Gather", ("n", "zero"), "n0", {"axis": 0}),
            ("Unsqueeze", ("n0", "a"), "n1", {}),
            ("Concat", ("n1", "m"), "s", {"axis": 0}),
            ("Reshape", ("x", "s"), "y", {}),
        ],
        {"zero": np.array(0, i64), "a": np.array([0], i64), "m": np.array([-1], i64)},
    ),
    "resize_half_pixel": (
        [("Resize", ("x", "", "s"), "y", {"mode": "linear", "coordinate_transformation_mode": "half_pixel"})],
        {"s": np.array([1, 1, 2, 2], np.float32)},
    ),
    "resize_asymmetric": (
        [("Resize", ("x", "", "", "s"), "y", {"mode": "linear", "coordinate_transformation_mode": "asymmetric"})],
        {"s": np.array([1, 3, 24, 15], i64)},
    ),
    "leaky_softmax": ([("LeakyRelu", ("x",), "l", {"alpha": 0.1}), ("Softmax", ("l",), "y", {"axis": 1})], {}),
    "constant_pow": (
        [("Pow", ("x", "two"), "p", {}), ("Sqrt", ("p",), "q", {}), ("Sum", ("q", "x"), "y", {})],
        {"two": np.float32(2)},
    ),
    "half_weights": (
        [("Cast", ("w16",), "w", {"to": 1}), ("Conv", ("x", "w"), "y", {})],
        {"w16": arr(C, 3, 3, 3).astype(np.float16)},
    ),
    "dropout_identity": ([("Dropout", ("x",), "d", {}), ("Identity", ("d",), "y", {})], {}),
}


@pytest.mark.parametrize("name", CASES)
def test_matches_onnxruntime(name):
    nodes, weights = CASES[name]
    proto = model(nodes, weights)
    x = torch.randn(1, 3, 12, 10, generator=torch.Generator().manual_seed(1))
    got = parse_onnx(proto.SerializeToString())(x)[0]
    want = run_ort(proto, x)
    assert got.shape == want.shape
    np.testing.assert_allclose(got.numpy(), want, atol=2e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """`models/insightface/models/small_pack` with a recognition network among others."""
    root = tmp_path_factory.mktemp("insightface")
    folder = root / "models" / "small_pack"
    folder.mkdir(parents=True)
    onnx.save(iresnet(), folder / "w_small.onnx")
    landmarks = model(
        [("ReduceMean", ("x",), "y", {"axes": [2, 3], "keepdims": 0})], {}, (1, 3, 192, 192), out_shape=["N", 3]
    )
    onnx.save(landmarks, folder / "2d106det.onnx")
    (folder / "a_broken.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    return root


def test_gradient_matches_finite_differences_of_onnxruntime():
    proto = iresnet()
    graph = parse_onnx(proto.SerializeToString())
    g = torch.Generator().manual_seed(0)
    x = (torch.randn(1, 3, 112, 112, generator=g)).requires_grad_()
    direction, probe = torch.randn(1, 3, 112, 112, generator=g), torch.randn(64, generator=g)
    np.testing.assert_allclose(graph(x)[0].detach().numpy(), run_ort(proto, x.detach()), atol=1e-4)
    (graph(x)[0] @ probe).backward()
    slope = float((x.grad * direction).sum())
    h = 1e-2
    up, down = (float(run_ort(proto, x.detach() + s * h * direction)[0] @ probe.numpy()) for s in (1, -1))
    assert slope == pytest.approx((up - down) / (2 * h), rel=0.03)


def test_gradcheck_double():
    nodes = [
        CONV,
        ("PRelu", ("c", "s"), "p", {}),
        ("BatchNormalization", ("p", "g", "b", "m", "v"), "n", {}),
        ("Flatten", ("n",), "f", {}),
        ("Gemm", ("f", "k"), "y", {}),
    ]
    weights = W | {
        "s": arr(C, 1, 1),
        "g": arr(C),
        "b": arr(C),
        "m": arr(C),
        "v": arr(C, positive=True),
        "k": arr(C * 20, 3),
    }
    graph = parse_onnx(model(nodes, weights, (1, 3, 4, 5)).SerializeToString()).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: graph(v)[0], (x,))


def test_unsupported_operator_is_named():
    proto = model([("Erf", ("x",), "y", {})], {})
    assert "Erf" not in OPS
    with pytest.raises(UserError, match="operator Erf"):
        parse_onnx(proto.SerializeToString())


def test_weights_stored_as_numbers_or_as_bytes(tmp_path):
    """TensorProto may hold floats, doubles, packed halves or int64 lists instead of raw bytes."""
    w = arr(C, 3, 3, 3)
    halves = [int(v) for v in w.astype(np.float16).view(np.uint16).ravel()]
    tensors = [
        helper.make_tensor("w", TensorProto.FLOAT, w.shape, w.ravel().tolist()),
        helper.make_tensor("shape", TensorProto.INT64, [2], [0, -1]),
    ]
    half = TensorProto(name="h", data_type=TensorProto.FLOAT16, dims=w.shape, int32_data=halves)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Cast", ["h"], ["h32"], to=1),
        helper.make_node("Conv", ["x", "h32"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Reshape", ["c", "shape"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 3, 12, 10])],
        [helper.make_tensor_value_info("y", 1, None)],
        [*tensors, half],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    x = torch.randn(1, 3, 12, 10, generator=torch.Generator().manual_seed(2))
    np.testing.assert_allclose(parse_onnx(proto.SerializeToString())(x)[0].numpy(), run_ort(proto, x), atol=1e-4)


def test_signature_leaves_weights_out(pack):
    signature = read_signature(pack / "models/small_pack/w_small.onnx")
    assert signature.inputs == {"x": [0, 3, 112, 112]}
    assert signature.outputs == {"y": [0, 64]}


def test_recognizer_from_pack(pack):
    assert list_packs(pack) == ["built-in", "small_pack"]
    folder = pack / "models" / "small_pack"
    assert [is_recognition(p) for p in sorted(folder.glob("*.onnx"))] == [False, False, True]
    by_name = load_recognizer("small_pack", folders=[pack])
    for other in (folder, folder / "w_small.onnx"):
        assert load_recognizer(other).name == by_name.name == "w_small"
    crop = torch.rand(2, 3, 112, 112, requires_grad=True)
    features = by_name(crop)
    assert features.embedding.shape == (2, by_name.dim) == (2, 64)
    torch.testing.assert_close(features.embedding.norm(dim=-1), torch.ones(2))
    assert [tuple(a.shape) for a in features.activations] == [(2, 12, 28, 28), (2, 16, 14, 14), (2, 24, 7, 7)]
    features.embedding[0].sum().backward()
    assert crop.grad[0].abs().sum() > 0 and crop.grad[1].abs().sum() == 0
    raw = run_ort(onnx.load(folder / "w_small.onnx"), (crop.detach()[:1] * 255 - 127.5) / 127.5)
    np.testing.assert_allclose(features.embedding[:1].detach(), raw / np.linalg.norm(raw), atol=1e-5)


def test_networks_that_scale_their_input_get_plain_pixels(tmp_path):
    onnx.save(iresnet(own_range=True), tmp_path / "own.onnx")
    r = load_recognizer(tmp_path / "own.onnx")
    assert (r.mean, r.scale) == (0.0, 1.0)
    crop = torch.rand(1, 3, 112, 112)
    raw = run_ort(onnx.load(tmp_path / "own.onnx"), crop * 255)
    np.testing.assert_allclose(r(crop).embedding, raw / np.linalg.norm(raw), atol=1e-5)


def test_foreign_face_analysis(pack):
    file = str(pack / "models/small_pack/w_small.onnx")
    analysis = SimpleNamespace(models={"detection": object(), "recognition": SimpleNamespace(model_file=file)})
    assert load_recognizer(analysis).name == "w_small"
    assert load_recognizer(analysis.models["recognition"]).name == "w_small"
    with pytest.raises(UserError, match="detection"):
        load_recognizer(SimpleNamespace(models={"detection": object()}))
    with pytest.raises(UserError, match="int"):
        load_recognizer(3)


def test_pack_unzipped_one_folder_too_deep(pack, tmp_path):
    deep = tmp_path / "models" / "antelopev2" / "antelopev2"
    deep.mkdir(parents=True)
    (deep / "glintr100.onnx").write_bytes((pack / "models/small_pack/w_small.onnx").read_bytes())
    assert list_packs(tmp_path) == ["built-in", "antelopev2"]
    assert load_recognizer("antelopev2", folders=[tmp_path]).name == "glintr100"


def test_same_as_insightface_itself(pack):
    """Where insightface is installed: its own model object is understood, and crop and embedding agree with its own."""
    zoo = pytest.importorskip("insightface.model_zoo")
    face_align = pytest.importorskip("insightface.utils.face_align")
    photo = load_photo(SAMPLE)
    face = load_detector().detect(photo[0])[0]
    theirs = zoo.get_model(str(pack / "models/small_pack/w_small.onnx"), providers=["CPUExecutionProvider"])
    ours = load_recognizer(SimpleNamespace(models={"recognition": theirs}))
    bgr = (photo[0] * 255).round().byte().permute(1, 2, 0).numpy()[..., ::-1].copy()
    chip = face_align.norm_crop(bgr, face.points5.numpy() - 0.5)  # OpenCV counts from the first pixel's centre
    rgb = torch.from_numpy(chip[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    crop = ours.crop(photo, ours.matrix(face.mesh[None]))
    assert (crop - rgb).abs().mean() < 0.01
    want = theirs.get_feat(chip)[0]
    np.testing.assert_allclose(ours(rgb).embedding[0], want / np.linalg.norm(want), atol=1e-5)


def test_missing_packs_say_what_was_expected(tmp_path):
    with pytest.raises(UserError, match="w600k_r50.onnx"):
        load_recognizer("buffalo_l", folders=[tmp_path])
    (tmp_path / "models" / "empty").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no .onnx"):
        load_recognizer("empty", folders=[tmp_path])
    with pytest.raises(UserError, match="No such ONNX"):
        load_recognizer(tmp_path / "gone.onnx")
    with pytest.raises(UserError, match="no pack folder"):
        recognition_file(tmp_path / "nowhere")


def test_damaged_files_are_user_errors(pack, tmp_path):
    whole = (pack / "models/small_pack/w_small.onnx").read_bytes()
    for i, data in enumerate((b"", b"\x08\x08", whole[: len(whole) // 2], b"\xff" * 64, whole[:40] + whole[90:])):
        path = tmp_path / f"{i}.onnx"
        path.write_bytes(data)
        with pytest.raises(UserError):
            load_recognizer(path)


def test_landmark_network_is_refused(pack):
    with pytest.raises(UserError, match="one embedding"):
        load_recognizer(pack / "models/small_pack/2d106det.onnx")


def test_template_is_insightface_norm_crop():
    points = torch.tensor(TEMPLATE_112)
    torch.testing.assert_close(template(112), points + 0.5)
    torch.testing.assert_close(template(224), 2 * points + 1)
    torch.testing.assert_close(template(128)[:, 0], points[:, 0] + 8.5)
