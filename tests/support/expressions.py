"""Weights of expressions by short names."""

import torch


def weights_of(head, **actions: float) -> torch.Tensor:
    """`[1, 52]`; a name without a side, such as `mouthSmile`, sets both sides."""
    out = torch.zeros(1, 52)
    for name, value in actions.items():
        for one in (name, name + "Left", name + "Right"):
            if one in head.expression_names:
                out[0, head.expression_names.index(one)] = value
    return out
