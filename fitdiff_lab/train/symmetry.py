"""Mirror images of heads, as a linear map of the identity coefficients."""

from __future__ import annotations

import torch
from torch import Tensor

from fitdiff_core.head import HeadModel


def mirror_matrix(head: HeadModel) -> Tensor:
    """`[K, K]`: the coefficients of a head `[1, K]` times this are those of its mirror image, in least squares."""
    from scipy.spatial import cKDTree

    flip = torch.tensor([-1.0, 1.0, 1.0])
    with torch.no_grad():
        mean, heads = head(torch.zeros(1, head.n_identity))[0], head(torch.eye(head.n_identity))
    twin = torch.as_tensor(cKDTree(mean.numpy()).query((mean * flip).numpy())[1])
    basis = (heads - mean).double()
    mirrored = basis[:, twin] * flip
    return torch.linalg.lstsq(basis.flatten(1).T, mirrored.flatten(1).T).solution.T.float()
