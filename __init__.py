"""ComfyUI finds the nodes here. Outside ComfyUI importing this does nothing."""

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint():
    """Called once by ComfyUI (V3 nodes, 0.3.75 and newer)."""
    from .nodes import FitDiffExtension

    return FitDiffExtension()
