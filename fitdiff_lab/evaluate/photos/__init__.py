"""How alike is it, how long does it take? `python -m fitdiff_lab.evaluate.photos PHOTOS` runs the main job over real photos.

`views` turns the camera and the light, `worker` does one photo in a process of its own, `likeness` asks recognisers,
`summary` and `page` write down what came out. `ablation` and `step_cost` are commands too.

Nothing here may import torch at once: `worker` starts through this package, and its seconds are a user's.
"""

from .common import SUFFIXES, load_judge, mean
from .sheet import PANEL, contact_sheet

__all__ = ["PANEL", "SUFFIXES", "contact_sheet", "load_judge", "mean"]
