"""Seeded damage to files: of bytes anywhere, and of values in JSON."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

ODD = (None, True, -1, 0, 1e300, float("nan"), "", "x", [], {}, [[]], [None], {"": 1}, 2**70, ["a", 3], "\ud800")


def of_bytes(data: bytes, n: int, seed: int, head: int | None = None) -> Iterator[bytes]:
    """n damaged copies. head: damage only the first `head` bytes, where the structure lies; None: anywhere."""
    r = np.random.default_rng(seed)
    end = min(head or len(data), len(data))
    for i in range(n):
        out, at = bytearray(data), int(r.integers(end))
        size = int(r.integers(1, 9))
        if i % 5 == 0:
            out[at] ^= 1 << int(r.integers(8))
        elif i % 5 == 1:
            out[at : at + size] = r.bytes(size)
        elif i % 5 == 2:
            del out[at : at + size]
        elif i % 5 == 3:
            out[at:at] = out[at : at + 4 * size]
        else:
            del out[at:]
        yield bytes(out)


def of_json(value: Any, n: int, seed: int) -> Iterator[Any]:
    """n copies, each with one value at any depth replaced by one of another kind, or one entry removed."""
    r = np.random.default_rng(seed)
    places = list(_places(value))
    yield from ([], None, 3, "x", {})
    for _ in range(n):
        out = copy.deepcopy(value)
        # first a depth, then a place: else the long lists take all
        depth = r.choice(sorted({len(p) for p in places}))
        path = [p for p in places if len(p) == depth]
        *way, last = path[int(r.integers(len(path)))]
        parent = out
        for key in way:
            parent = parent[key]
        if r.random() < 0.2:
            del parent[last]
        else:
            parent[last] = copy.deepcopy(ODD[int(r.integers(len(ODD)))])
        yield out


def _places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """The path of each entry at any depth."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*at, key)
        yield from _places(value[key], (*at, key))


def split(file: bytes) -> tuple[dict, bytes]:
    """(header, tensors) of a safetensors file."""
    length = struct.unpack("<Q", file[:8])[0]
    return json.loads(file[8 : 8 + length]), file[8 + length :]


def joined(header: Any, body: bytes) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + body
