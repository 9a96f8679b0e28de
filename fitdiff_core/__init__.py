"""FitDiff: one photo becomes a relightable 3-D head (shape, diffuse albedo, specular albedo, normals).

The library behind the ComfyUI nodes; it knows nothing of ComfyUI. `pipeline` holds each step of the method as one call.
"""

__version__ = "0.1.0"
