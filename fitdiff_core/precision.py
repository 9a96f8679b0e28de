"""Where the processor computes bfloat16 by itself, networks that only steer the sampling run in it: about twice as
fast."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def native_bfloat16(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 in hardware. On other processors torch emulates it, more slowly.

    GPUs are left at float32: torch uses their tensor cores where the user allows it.
    """
    if device.type != "cpu":
        return False
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe() for probe in probes if probe is not None)


def fast_networks(device: torch.device) -> AbstractContextManager:
    """Context in which convolutions and matrix products run in bfloat16 where that is native, else in float32.

    For networks whose rounding errors do not matter: those that were trained so, and gradients of guidance.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=native_bfloat16(device))
