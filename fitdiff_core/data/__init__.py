"""Synthetic people: skin, shape, light, camera. Used for training only; nodes never import it."""
