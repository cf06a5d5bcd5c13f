"""Precision: bfloat16 in training only where it is quick. Frames at once by the memory of a GPU."""

import pytest
import torch

from hmrkit.device import mixed_precision, usual_batch_size


@pytest.mark.parametrize(("native", "wanted"), [(True, torch.bfloat16), (False, torch.float32)])
def test_training_is_in_bfloat16_where_the_cpu_multiplies_in_it(native, wanted, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    with mixed_precision(torch.device("cpu")):
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == wanted


def test_a_torch_that_cannot_tell_trains_in_float32(monkeypatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    with mixed_precision(torch.device("cpu")):
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize(("free_gib", "frames"), [(0.5, 8), (6, 12), (100, 32)])
def test_a_gpu_gets_as_many_frames_as_its_memory_holds(free_gib, frames, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free_gib * 2**30), 2**37))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**28)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2**28)
    assert usual_batch_size(torch.device("cuda", 1)) == frames
    assert usual_batch_size(torch.device("cpu")) == 8
