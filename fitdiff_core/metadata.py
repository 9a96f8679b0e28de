"""The JSON texts in the metadata of safetensors files, with the type of every value checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

# what a reader of a damaged file can meet
DAMAGE = (
    ArithmeticError,
    AttributeError,
    KeyError,
    IndexError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_count(value: Any) -> bool:
    """A whole number from 1 to 65536."""
    return type(value) is int and 1 <= value <= 1 << 16


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def list_of(check: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    """Check of a list whose entries pass `check`. length: None for any."""
    return lambda value: isinstance(value, list) and length in (None, len(value)) and all(map(check, value))


def json_table(text: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises ValueError if it is none, or nested too deeply."""
    try:
        value = json.loads(text)
    except (TypeError, RecursionError) as e:
        raise ValueError(f"the metadata is not JSON ({e})") from e
    if not isinstance(value, dict):
        raise ValueError("the metadata is not a table")
    return value


def check_fields(
    table: dict[str, Any], checks: Mapping[str, Callable[[Any], bool]], optional: tuple[str, ...] = ()
) -> None:
    """Raises ValueError unless the table has each field with a value that passes its check; others may be there.

    optional: fields that may be missing
    """
    for name, check in checks.items():
        if name not in table and name in optional:
            continue
        if name not in table or not check(table[name]):
            shown = repr(table.get(name))[:60]
            raise ValueError(f"the metadata's {name} is {shown}")
