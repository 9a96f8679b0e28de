"""A real ComfyUI and a real browser for the tests: set up, start, drive."""
