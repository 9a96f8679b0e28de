"""The photo in the atlas: a network that says what of it is skin, what is light, and what is something else."""
