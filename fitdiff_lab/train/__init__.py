"""Commands that train the shipped weights."""
