"""Two ways of joining shape and texture in one denoiser, trained side by side on the same batches:

    python -m fitdiff_lab.experiments.fusion --data DIR/latents --out runs/joins --steps 400

- `exchange`: what ships. A branch of its own for the shape, which reads the UNet's pooled features and hands signals back.
- `plane`: the shape vector is one more plane of the UNet's input and output, as it is packed in the latent.
Each is a run folder of its own with the denoiser's log; prior, data, seeds, steps and loss are the same.
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
from ..train.denoiser import config_for, train
from ..train.run import Budget, Run, arguments


class PlaneUNet(UNet):
    """`UNet` without the shape branch: the vector lies in an extra plane, as in the latent."""

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
    def __init__(self, config: DenoiserConfig | None = None):
        super().__init__(config)
        self.net = PlaneUNet(self.config)


@command
def main(argv: list[str] | None = None) -> None:
    args = arguments(
        __doc__, "runs/joins", lr=8e-4, batch=16, data="folder made by fitdiff_lab.dataset.latents"
    ).parse_args(argv)
    torch.set_num_threads(args.threads)
    data = People(args.data)
    config = config_for(data)
    for name, kind in (("exchange", Denoiser), ("plane", PlaneDenoiser)):
        print(name, flush=True)
        run = Run(
            Path(args.out) / name,
            {"join": name, "steps": args.steps, "lr": args.lr, "batch": args.batch, "seed": args.seed},
        )
        train(
            run,
            data,
            Budget(args.minutes, args.steps).catch_signals(),
            config,
            lr=args.lr,
            batch=args.batch,
            seed=args.seed,
            bf16=args.precision == "bf16",
            save_seconds=args.save_seconds,
            kind=kind,
        )


if __name__ == "__main__":
    sys.exit(main())
