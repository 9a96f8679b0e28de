"""Measure a checkpoint: on held-out synthetic people, on pictures of another renderer, on real photos."""
