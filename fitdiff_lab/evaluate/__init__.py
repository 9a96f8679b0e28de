"""Commands that measure a checkpoint: on synthetic people, on pictures of another renderer, and on real photos."""
