"""Measure the time of a guided step, and of its parts alone.

    python -m fitdiff_lab.evaluate.photos.step_cost [PHOTO] [-n 15]

The parts are the denoiser (forward, with classifier-free guidance), forward and backward of the decoder, the renderer
(mesh to picture) and the recogniser (crop to embedding and layers), and the fit of the light. A step costs more than
the sum of its parts because of landmarks and bookkeeping; the goal is at most 1.15 times the sum. Output: medians of N
rounds in ms. The parts take turns, so that a busy machine slows them all. Takes about a minute.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from fitdiff_core import pipeline
from fitdiff_core.errors import command
from fitdiff_core.fitting.gbuffer import GBuffer
from fitdiff_core.guidance import GuidedDenoiser, PhotoObjective
from fitdiff_core.guidance.guided_denoiser import decode_fast
from fitdiff_core.image import linear_to_srgb, load_photo
from fitdiff_core.maps import TextureMaps
from fitdiff_core.model.denoiser import unpack_latent
from fitdiff_core.precision import fast_networks
from fitdiff_core.render import render
from fitdiff_core.sampling import ConditionedDenoiser, SampleSettings

from ...cli import command_parser

GOAL = 1.15  # largest ratio of the step to the sum of its parts
STEP = "guided step"
SIGMA = 1.0  # in the middle of the guidance's window
SAMPLE = Path(__file__).resolve().parents[3] / "samples" / "eileen_collins.jpg"


def parts(photo: Path) -> dict[str, Callable[[], object]]:
    """{name: function that runs the part once}; `STEP` is the whole step."""
    model, recognizer = pipeline.load_model(), pipeline.load_recognizer()
    image = load_photo(photo)
    denoise = ConditionedDenoiser(model, pipeline.encode(image, recognizer), SampleSettings.cfg_scale)
    (guidance,) = pipeline.prepare_guidance(pipeline.fit_photos(image, model.head), recognizer)
    target = guidance.target
    sigma = torch.tensor([SIGMA])
    noisy = SIGMA * pipeline.noise(model, 0)

    guided = GuidedDenoiser(denoise, model, guidance)
    with torch.no_grad():
        texture, shape = (t.contiguous() for t in unpack_latent(denoise(noisy, sigma), model.head.n_identity))
        maps = model.autoencoder.decode(texture, size=256)
        vertices = model.head(shape, guidance.scene.expression, guidance.scene.gaze)
    scene = guidance.scene.detach()

    def there_and_back(f, *inputs):
        """Forward, and backward from gradients of one."""
        with torch.enable_grad():
            inputs = [x.detach().requires_grad_() for x in inputs]
            outputs = f(*inputs)
            torch.autograd.grad(outputs, inputs, [torch.ones_like(y) for y in outputs])

    def picture(stack, mesh):
        out = render(mesh, model.head, TextureMaps.from_stack(stack), scene.camera, scene.light, size=target.photo.size)
        return [linear_to_srgb(out.image.clamp(0, 1))]

    def recognised(pixels):
        with fast_networks(pixels.device):
            features = recognizer(recognizer.crop(pixels, target.matrix))
        return [features.embedding, *features.activations]

    objective = PhotoObjective(model.head, lambda z: decode_fast(model.autoencoder, z), guidance)

    def lit():
        """The light and the gain of the photo, which are fitted anew in each step."""
        size = (target.photo.size[0] // 2, target.photo.size[1] // 2)
        gbuffer = GBuffer.render(vertices, model.head, scene, size)
        skin = gbuffer.sample(target.photo.regions)[:, 1:2] * gbuffer.facing
        objective.relight(gbuffer, TextureMaps.from_stack(maps), scene, skin)
        objective.low_frequency_gain(target.photo.image, skin)

    return {
        "denoiser": lambda: denoise(noisy, sigma),
        "decoder": lambda: there_and_back(lambda z: [decode_fast(model.autoencoder, z)], texture),
        "renderer": lambda: there_and_back(picture, maps, vertices),
        "light": lit,
        "recogniser": lambda: there_and_back(recognised, target.photo.image),
        STEP: lambda: guided(noisy, sigma),
    }


def measure(rounds: dict[str, Callable[[], object]], n: int, warm: int = 1) -> dict[str, float]:
    """Median milliseconds of each function over n rounds, after `warm` rounds that do not count."""
    taken: dict[str, list[float]] = {name: [] for name in rounds}
    for i in range(n + warm):
        for name, once in rounds.items():
            start = time.perf_counter()
            with torch.no_grad():
                once()
            if i >= warm:
                taken[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in taken.items()}


def measure_step_cost(photo: Path = SAMPLE, n: int = 15) -> dict:
    """{"ms": {part: median}, "sum_ms", "step_ms", "ratio"}"""
    ms = measure(parts(photo), n)
    step = ms.pop(STEP)
    whole = sum(ms.values())
    return {"ms": ms, "sum_ms": whole, "step_ms": step, "ratio": step / whole}


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("evaluate.photos.step_cost", __doc__)
    p.add_argument("photo", type=Path, nargs="?", default=SAMPLE, help="(%(default)s)")
    p.add_argument("-n", type=int, default=15, help="rounds (%(default)s)")
    args = p.parse_args(argv)
    found = measure_step_cost(args.photo, args.n)
    for name, value in found["ms"].items():
        print(f"{name:12} {value:7.1f} ms")
    print(
        f"{'sum':12} {found['sum_ms']:7.1f} ms\n"
        f"{STEP:12} {found['step_ms']:7.1f} ms, {found['ratio']:.2f} of the sum (goal: at most {GOAL})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
