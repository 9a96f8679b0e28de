"""Boxes on a graph: left, top, right, bottom in pixels."""

from __future__ import annotations

from collections.abc import Sequence

Box = Sequence[float]


def bounds(group: dict) -> Box:
    """Of a group as a workflow's JSON has it."""
    x, y, w, h = group["bounding"]
    return x, y, x + w, y + h


def gap(a: Box, b: Box) -> float:
    """Pixels between two boxes, across or down; below 0 they overlap."""
    return max(b[0] - a[2], a[0] - b[2], b[1] - a[3], a[1] - b[3])


def inside(a: Box, b: Box) -> bool:
    """a lies in b."""
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]
