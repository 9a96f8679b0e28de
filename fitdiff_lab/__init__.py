"""Makes and measures what `fitdiff_core` ships: assets, synthetic people, training, evaluation. Not needed to run it."""
