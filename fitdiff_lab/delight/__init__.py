"""The photo in the atlas: what of it is skin, what is light, and what is something else. A trained network decides."""
