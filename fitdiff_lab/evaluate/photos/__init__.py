"""Measure the main job on real photos: likeness, time and memory.

`python -m fitdiff_lab.evaluate.photos PHOTOS` runs the command line on a folder of photos. `ablation` and `step_cost`
are commands too. `views` renders a head from other sides and in another light, `worker` processes one photo in its own
process, `likeness` asks face recognisers, `summary` and `page` write the results.

No module here may import torch when it is imported: `worker` starts through this package, and its time must be a
user's.
"""

from .common import SUFFIXES, load_judge, mean
from .sheet import PANEL, contact_sheet

__all__ = ["PANEL", "SUFFIXES", "contact_sheet", "load_judge", "mean"]
