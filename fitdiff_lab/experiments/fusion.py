"""Fusion ablation: two ways of joining shape and texture in one denoiser, trained on the same batches.

    python -m fitdiff_lab.experiments.fusion --data DIR/latents --out runs/fusion --steps 400

- `exchange` ships: a branch for the shape reads the UNet's pooled features and returns signals to it.
- `plane`: the shape vector is one more plane of the UNet's input and output, as in the packed latent.

Input: the arrays of fitdiff_lab.dataset.latents. Output: a run folder of each (see fitdiff_lab.train.run), with the
denoiser's log. Prior, data, seeds, steps and loss are the same. Takes about twice the minutes of a denoiser's run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fitdiff_core.errors import command
from fitdiff_core.model.denoiser import Denoiser, DenoiserConfig, pack_latent, unpack_latent
from fitdiff_core.model.unet import Prepared, UNet, zero_init

from ..dataset.reading import People
from ..train.denoiser import DenoiserOptions, train
from ..train.run import Budget, Run, arguments
from ..train.untrained import config_for


class PlaneUNet(UNet):
    """`UNet` without the shape branch: the shape vector is an extra plane, as in the packed latent."""

    def __init__(self, c: DenoiserConfig):
        super().__init__(c)
        for name in ("shape_in", "exchanges", "shape_out"):
            delattr(self, name)
        self.stem = nn.Conv2d(2 * c.latent + 1, c.widths[0], 3, padding=1)
        self.out = zero_init(nn.Conv2d(c.widths[0], c.latent + 1, 3, padding=1))

    def forward(self, x: Tensor, s: Tensor, c_noise: Tensor, cond: Prepared) -> tuple[Tensor, Tensor]:
        phase = c_noise[:, None] * self.frequencies
        emb = F.silu(self.emb(torch.cat([phase.cos(), phase.sin()], 1)) + cond.emb)
        b, a = self.blocks, self.attentions
        h = self.stem(pack_latent(x, s).contiguous(memory_format=torch.channels_last))
        h0 = b[0](h + self.position.to(h), emb, cond.spade[0])
        h1 = b[1](self.downs[0](h0), emb, cond.spade[1])
        h2 = b[2](self.downs[1](h1), emb, cond.spade[2])
        h = a[0](b[3](h2, emb, cond.spade[3]), cond.tokens[0])
        h = a[1](b[4](h, emb, cond.spade[4]), cond.tokens[1])
        h = F.interpolate(self.ups[0](h), scale_factor=2.0)
        h = a[2](b[5](torch.cat([h, h1], 1), emb, cond.spade[5]), cond.tokens[2])
        h = F.interpolate(self.ups[1](h), scale_factor=2.0)
        h = self.out(F.silu(self.out_norm(b[6](torch.cat([h, h0], 1), emb, cond.spade[6]))))
        return unpack_latent(h, s.shape[1])


class PlaneDenoiser(Denoiser):
    """The denoiser around a `PlaneUNet`."""

    def __init__(self, config: DenoiserConfig | None = None):
        super().__init__(config)
        self.net = PlaneUNet(self.config)


@command
def main(argv: list[str] | None = None) -> None:
    args = arguments(
        "experiments.fusion",
        __doc__,
        "runs/fusion",
        lr=8e-4,
        batch=16,
        data="folder made by fitdiff_lab.dataset.latents",
        init=False,
    ).parse_args(argv)
    torch.set_num_threads(args.threads)
    data, options = People(args.data), DenoiserOptions.of(args)
    config = config_for(data)
    for name, kind in (("exchange", Denoiser), ("plane", PlaneDenoiser)):
        print(name, flush=True)
        settings = {"join": name, "steps": args.steps, "lr": args.lr, "batch": args.batch, "seed": args.seed}
        run, budget = Run(Path(args.out) / name, settings), Budget(args.minutes, args.steps).catch_signals()
        train(run, data, budget, config, options, kind=kind)


if __name__ == "__main__":
    sys.exit(main())
