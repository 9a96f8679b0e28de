"""Hair as cards that are grown on the scalp by parameters."""
