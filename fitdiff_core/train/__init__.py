"""Commands that make the shipped weights. Nodes never import it."""
