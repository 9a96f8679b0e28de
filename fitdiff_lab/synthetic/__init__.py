"""Synthetic people and their photographs: attributes, skin, hair, shape, light, camera."""
