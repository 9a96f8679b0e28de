"""Where each node stands in ComfyUI's node list."""

from __future__ import annotations

CATEGORY = "FitDiff"
GROUPS = {
    "photo": (
        "LoadPhoto",
        "FindFaces",
        "LoadRecognizer",
        "EncodeIdentity",
        "BlendIdentities",
        "WalkIdentities",
        "Guidance",
        "CombineGuidance",
    ),
    "sampling": ("LoadModel", "Sampler", "Guider", "Sigmas", "EmptyLatent", "FittedScene"),
    "maps": ("DecodeUV", "ReplaceMaps", "PhotoDetail", "SkinRelief", "Hair", "RegionMasks", "UVTemplate"),
    "light and pictures": (
        "Stage",
        "Render",
        "Expression",
        "BlendScenes",
        "ExpressionFromPhoto",
        "MotionFromVideo",
        "SceneCamera",
        "Turntable",
        "RenderPasses",
        "EnvironmentLight",
        "DirectionalLight",
        "SceneLight",
        "LoadEnvironment",
    ),
    "export": ("ExportMesh", "SaveAvatar", "LoadAvatar"),
}


def category_of(node_id: str) -> str:
    """Category of a node without its prefix; nodes in no group stand at the top."""
    group = next((name for name, nodes in GROUPS.items() if node_id in nodes), None)
    return f"{CATEGORY}/{group}" if group else CATEGORY
