"""Comparisons behind decisions in docs/design.md. Nothing else needs them."""
