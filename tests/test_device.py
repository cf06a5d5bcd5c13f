"""Precision: bfloat16 in training only where it is quick."""

import pytest
import torch

from hmrkit.device import mixed_precision


@pytest.mark.parametrize(("native", "wanted"), [(True, torch.bfloat16), (False, torch.float32)])
def test_training_is_in_bfloat16_where_the_cpu_multiplies_in_it(native, wanted, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    with mixed_precision(torch.device("cpu")):
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == wanted


def test_a_torch_that_cannot_tell_trains_in_float32(monkeypatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    with mixed_precision(torch.device("cpu")):
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32
