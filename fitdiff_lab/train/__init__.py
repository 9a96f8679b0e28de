"""Training commands of the shipped weights."""
