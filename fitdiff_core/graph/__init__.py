"""Networks as data: a file becomes a list of operator calls, which a differentiable interpreter runs."""
