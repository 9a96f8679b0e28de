"""Loaded networks, known to ComfyUI's memory management: it may move them away, and "unload models" frees them."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch


class Networks:
    """What a patcher holds as its model. It refers to the value weakly: whoever uses the networks keeps them alive."""

    def __init__(self, value: Any, device: torch.device):
        self.value, self.device = weakref.ref(value), device
        modules = [value] if isinstance(value, torch.nn.Module) else vars(value).values()
        self.modules_found = [weakref.ref(m) for m in modules if isinstance(m, torch.nn.Module)]

    def parts(self) -> list[torch.nn.Module]:
        return [m for ref in self.modules_found if (m := ref()) is not None]

    def size(self) -> int:
        """Bytes of all weights. Sparse ones are small and left out: they have no such number."""
        tensors = (t for m in self.parts() for t in (*m.parameters(), *m.buffers()))
        return sum(t.nbytes for t in tensors if t.layout == torch.strided)

    def to(self, device: torch.device) -> None:
        for module in self.parts():
            module.to(device)
        self.device = device


class Patcher(comfy.model_patcher.ModelPatcher):
    """ComfyUI's handle on `Networks`. They move as a whole: our layers can't compute with weights elsewhere."""

    def __init__(self, model: Networks, load_device, offload_device, on_detach: Callable[[], Any]):
        super().__init__(model, load_device, offload_device, size=max(model.size(), 1))
        self.on_detach = on_detach

    def partially_load(self, device_to, extra_memory=0, *args, **kw):
        self.model.to(device_to)
        self.model.model_loaded_weight_memory = self.model_size()
        return self.model_size()

    def partially_unload(self, device_to, memory_to_free=0, *args, **kw):
        return 0  # then ComfyUI unloads all of it

    def detach(self, unpatch_all=True):
        self.model.to(self.offload_device)
        self.model.model_loaded_weight_memory = 0
        self.on_detach()
        return self.model

    def is_loaded(self) -> bool:
        return any(m.model is self for m in comfy.model_management.current_loaded_models)


class Keeper:
    """Keeps the values loaded last, and tells ComfyUI of them.

    When ComfyUI unloads a value it moves to the CPU, and is kept no longer. Where a graph still holds it, the next node
    that runs brings it back to its device.
    """

    def __init__(self, at_most: int):
        """at_most: values that are kept in addition to those that graphs hold."""
        self.at_most = at_most
        self.kept: OrderedDict[tuple, Any] = OrderedDict()
        self.alive: dict[tuple, weakref.ref] = {}
        self.patchers: dict[tuple, Patcher] = {}

    def get(self, name: tuple, version: tuple, load: Callable[[], Any], device: torch.device) -> Any:
        """The value of this name and version: kept, or alive in a graph, or loaded now."""
        key = (*name, *version)
        value = self.kept.get(key)
        if value is None and (ref := self.alive.get(key)) is not None:
            value = ref()
        if value is None:
            for old in [k for k in self.kept if k[: len(name)] == name]:
                del self.kept[old]  # the file was replaced, so the old weights are not needed any more
            value = load()
            self.alive[key] = weakref.ref(value, lambda _: self._forget(key))
            networks = Networks(value, device)
            self.patchers[key] = Patcher(networks, device, torch.device("cpu"), lambda: self._release(key))
        self.kept[key] = value
        self.kept.move_to_end(key)
        while len(self.kept) > self.at_most:
            self.kept.popitem(last=False)
        self.bring_back()
        return value

    def bring_back(self) -> None:
        """Have ComfyUI load whatever is alive and was unloaded."""
        away = [p for p in list(self.patchers.values()) if not p.is_loaded()]
        if away:
            comfy.model_management.load_models_gpu(away)

    def _release(self, key: tuple) -> None:
        """Keep a value no longer, once ComfyUI is through with unloading it.

        Its end removes it from ComfyUI's list of loaded models, which ComfyUI walks over at this moment. In a cycle it
        lives until the next garbage collection. ComfyUI makes one after "unload models".
        """
        cycle = [self.kept.pop(key, None)]
        cycle.append(cycle)

    def _forget(self, key: tuple) -> None:
        self.alive.pop(key, None)
        self.patchers.pop(key, None)
