"""ComfyUI nodes: adapters that translate inputs and outputs of `fitdiff_core`. They hold no maths."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension

from .atlas import RegionMasks, UVTemplate
from .avatar import DecodeUV, ReplaceMaps
from .avatar_file import LoadAvatar, SaveAvatar
from .custom_sampling import EmptyLatent, FittedScene, Guider, Sigmas
from .detail import PhotoDetail
from .export import ExportMesh
from .expression import BlendScenes, Expression
from .faces import FindFaces
from .guidance import CombineGuidance, Guidance
from .hair import Hair
from .host import register_folders
from .identity import BlendIdentities, EncodeIdentity, WalkIdentities
from .lights import DirectionalLight, EnvironmentLight, LoadEnvironment, SceneLight
from .load_photo import LoadPhoto
from .models import LoadModel, LoadRecognizer
from .motion import ExpressionFromPhoto, MotionFromVideo
from .photo_to_head import PhotoToHead
from .relief import SkinRelief
from .render import Render, SceneCamera
from .sampling import Sampler
from .stage import Stage
from .views import RenderPasses, Turntable

NODES: list[type] = [
    LoadModel,
    LoadRecognizer,
    EncodeIdentity,
    BlendIdentities,
    WalkIdentities,
    Guidance,
    CombineGuidance,
    Sampler,
    DecodeUV,
    ReplaceMaps,
    PhotoDetail,
    Hair,
    Render,
    ExportMesh,
    Guider,
    Sigmas,
    EmptyLatent,
    FittedScene,
    RegionMasks,
    UVTemplate,
    EnvironmentLight,
    DirectionalLight,
    SceneLight,
    LoadEnvironment,
    Turntable,
    RenderPasses,
    LoadPhoto,
    PhotoToHead,
    FindFaces,
    SceneCamera,
    SaveAvatar,
    LoadAvatar,
    Expression,
    BlendScenes,
    Stage,
    SkinRelief,
    ExpressionFromPhoto,
    MotionFromVideo,
]


class FitDiffExtension(ComfyExtension):
    async def get_node_list(self) -> list[type]:
        register_folders()  # here, because hosts of the 0.3 series never call on_load
        return NODES
