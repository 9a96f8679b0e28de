"""The training set: written by `prepare`, encoded by `latents`, read by `reading`."""
