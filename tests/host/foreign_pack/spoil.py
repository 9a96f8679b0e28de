"""Nodes that hand on what they are given, spoilt: another pack's bugs, as our nodes meet them."""

import copy
from dataclasses import replace

import torch


def put_nan(x):
    x = x.clone(memory_format=torch.contiguous_format)
    x.view(-1)[x.numel() // 2] = float("nan")
    return x


def latent(change):
    return lambda value: {**value, "samples": change(value["samples"])}


def identity(change):
    return lambda value: replace(
        value, embedding=change(value.embedding), activations=tuple(map(change, value.activations))
    )


def avatar_maps(value):
    return replace(value, maps=replace(value.maps, normal=put_nan(value.maps.normal)))


def several(n):
    """n of a dataclass of tensors (a scene, a light), or of a tensor."""

    def repeat(value):
        if torch.is_tensor(value):
            return torch.cat([value] * n)
        if not hasattr(value, "__dataclass_fields__"):
            return value
        changed = copy.copy(value)
        for name in value.__dataclass_fields__:
            setattr(changed, name, repeat(getattr(value, name)))
        return changed

    return repeat


WAYS = {
    "image: empty batch": lambda x: x[:0],
    "image: no pixels": lambda x: x[:, :0],
    "image: NaN": put_nan,
    "image: without batch": lambda x: x[0],
    "image: 7 channels": lambda x: x.repeat(1, 1, 1, 3)[..., :7],
    "image: 1 channel": lambda x: x[..., :1],
    "image: 4 channels": lambda x: torch.cat([x, torch.ones_like(x[..., :1])], -1),
    "image: beyond 0..1": lambda x: (x - 0.5) * 1.6 + 0.5,
    "image: float16": lambda x: x.half(),
    "image: float64": lambda x: x.double(),
    "image: bytes": lambda x: (x * 255).byte(),
    "image: odd size": lambda x: x[:, :311, :419],
    "image: 5 x 5": lambda x: x[:, 100:105, 200:205],
    "image: 3 x 2": lambda x: x[:, 100:103, 200:202],
    "latent: NaN": latent(put_nan),
    "latent: no samples": lambda value: {},
    "latent: flat": latent(lambda x: x.flatten(1)),
    "latent: half the size": latent(lambda x: x[..., ::2, ::2]),
    "identity: NaN": identity(put_nan),
    "identity: half as long": identity(lambda x: x[:, : x.shape[1] // 2]),
    "identity: empty": identity(lambda x: x[:0]),
    "identity: two": identity(lambda x: torch.cat([x, x])),
    "identity: another recogniser": lambda value: replace(value, recognizer="w600k_r50"),
    "avatar: NaN shape": lambda value: replace(value, shape=put_nan(value.shape)),
    "avatar: NaN maps": avatar_maps,
    "two of it": several(2),
    "three of it": several(3),
}


class Anything(str):
    def __ne__(self, other):
        return False


class TestSpoil:
    CATEGORY = "test"
    FUNCTION = "spoil"
    RETURN_TYPES = (Anything("*"),)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (Anything("*"),), "way": (list(WAYS),)}}

    def spoil(self, value, way):
        return (WAYS[way](value),)
