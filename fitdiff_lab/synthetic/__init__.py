"""Synthetic people: skin, shape, light, camera."""
