"""The config file of the command line: a JSON object with the settings that have no flag of their own (docs/cli.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError

if TYPE_CHECKING:  # torch is imported under the command line's clock
    from .guidance import GuidanceSettings
    from .sampling import SampleSettings

LARGEST_SIZE = 8192  # of steps, texture_size and render_size


def default_config() -> dict[str, Any]:
    """Every config key with its default; those of the sampling come from `SampleSettings`."""
    from .sampling import SampleSettings

    return vars(SampleSettings()) | {
        "texture_size": 512,
        "render_size": 512,
        "which": "largest",
        "checkpoint": None,
        "recognizer": "built-in",
        "weights": {},
        "sigma_window": None,
    }


def read_config(path: str | None, steps: int | None = None, which: str | None = None) -> dict[str, Any]:
    """The defaults, overridden by the JSON file at `path`, then by `steps` and `which`. Raises UserError for unknown
    keys and wrong values."""
    config = default_config()
    if path:
        try:
            given = json.loads(Path(path).read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as e:
            raise UserError(f"Cannot read the config {path} as JSON: {e}") from e
        if not isinstance(given, dict):
            raise UserError(f"The config {path} must hold one JSON object.")
        if unknown := sorted(set(given) - set(config)):
            raise UserError(f"Unknown setting in {path}: {', '.join(unknown)}. Known: {', '.join(sorted(config))}.")
        config.update(given)
    if steps is not None:
        config["steps"] = steps
    if which is not None:
        config["which"] = which
    check_config(config)
    return config


def check_config(config: dict[str, Any]) -> None:
    """Raise UserError for a value of a wrong type or out of range."""
    for key in ("steps", "texture_size", "render_size"):
        if type(config[key]) is not int or not 1 <= config[key] <= LARGEST_SIZE:
            raise UserError(f"{key} must be a whole number from 1 to {LARGEST_SIZE} (got {config[key]!r}).")
    if not is_number(config["cfg_scale"]):
        raise UserError(f"cfg_scale must be a number (got {config['cfg_scale']!r}).")
    if not is_number(config["variation"]) or not 0 <= config["variation"] <= 1:
        raise UserError(f"variation must be a number from 0 to 1 (got {config['variation']!r}).")
    for key in ("checkpoint", "recognizer", "sampler"):
        if not isinstance(config[key], str) and not (key == "checkpoint" and config[key] is None):
            raise UserError(f"{key} must be text (got {config[key]!r}).")
    if not isinstance(config["weights"], dict):
        raise UserError(f'weights must be an object such as {{"identity": 1.0}} (got {config["weights"]!r}).')
    from .face import parse_choice

    parse_choice(config["which"])
    sample_settings(config)
    window = config["sigma_window"]
    if window is not None and not (isinstance(window, list) and len(window) == 2 and all(map(is_number, window))):
        raise UserError(f"sigma_window must be two numbers, [start, end] (got {window!r}).")


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def sample_settings(config: dict[str, Any]) -> SampleSettings:
    """The config's `SampleSettings`. Raises UserError for an unknown sampler."""
    from .sampling import SampleSettings

    return SampleSettings(config["steps"], config["cfg_scale"], config["sampler"], config["variation"])


def guidance_settings(config: dict[str, Any]) -> GuidanceSettings:
    """The config's `GuidanceSettings`. Raises UserError for an unknown weight or a window that does not fall."""
    from .guidance import GuidanceSettings, GuidanceWeights

    try:
        weights = GuidanceWeights(**config["weights"])
    except TypeError as e:
        raise UserError(f"Unknown guidance weight in the config: {e}.") from e
    window = config["sigma_window"]
    return GuidanceSettings(weights) if window is None else GuidanceSettings(weights, tuple(window))
