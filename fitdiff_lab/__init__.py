"""Makes and measures what `fitdiff_core` ships: assets, training data, weights.

`python -m fitdiff_lab` lists commands.
"""
