"""Says which networks of the pack are in the server's memory, and which of them ComfyUI takes for loaded."""

import gc
import json
from collections import Counter

import comfy.model_management
import torch


class TestCamera:
    """In place of core's Load 3D, whose camera comes from the browser."""

    CATEGORY = "test"
    FUNCTION = "give"
    RETURN_TYPES = ("LOAD3D_CAMERA",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"info": ("STRING", {"default": "{}"})}}

    def give(self, info):
        return (json.loads(info),)


class TestChoice:
    """A choice that comes by a link: the host checks no such value."""

    CATEGORY = "test"
    FUNCTION = "give"
    RETURN_TYPES = ("COMBO",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"choice": ("STRING", {"default": ""})}}

    def give(self, choice):
        return (choice,)


class TestLiveNetworks:
    CATEGORY = "test"
    FUNCTION = "count"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"salt": ("INT", {"default": 0, "max": 10**9})}}

    def count(self, salt):
        gc.collect()
        modules = [o for o in gc.get_objects() if isinstance(o, torch.nn.Module)]
        found = [o for o in modules if ".fitdiff_core." in type(o).__module__]
        tensors = {id(t): t for m in found for t in (*m.parameters(), *m.buffers()) if t.layout == torch.strided}
        patchers = [m.model for m in comfy.model_management.current_loaded_models]
        said = {"Denoiser": 0, **Counter(type(m).__name__ for m in found)}
        said["patchers"] = len([p for p in patchers if type(p).__module__.endswith("nodes.memory")])
        said["bytes"] = sum(t.nbytes for t in tensors.values())
        return {"ui": {"text": [json.dumps(said)]}}
