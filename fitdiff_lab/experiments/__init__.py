"""One-off comparisons behind decisions of docs/design.md."""
