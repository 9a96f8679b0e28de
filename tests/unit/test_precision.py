"""bfloat16 only where the processor multiplies it, and only inside the context."""

import pytest
import torch

from fitdiff_core import precision


@pytest.mark.parametrize("native", [True, False])
def test_networks_run_in_bfloat16_where_it_is_native(monkeypatch, native):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    layer, x = torch.nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)
    with precision.fast_networks(torch.device("cpu")):
        assert layer(x).dtype == (torch.bfloat16 if native else torch.float32)
    assert layer(x).dtype == torch.float32


def test_a_torch_without_the_probes_and_other_devices_stay_at_float32(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not precision.native_bfloat16(torch.device("cpu"))
    assert not precision.native_bfloat16(torch.device("cuda"))
