"""What the viewer ships: three.js as one module, and panoramas."""
