"""The training set: `prepare` makes it, `latents` encodes it, `reading` reads it; `shards` has the file format."""
