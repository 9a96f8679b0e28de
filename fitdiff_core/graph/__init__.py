"""Networks as data: files are read into a list of operator calls, which a differentiable interpreter runs."""
