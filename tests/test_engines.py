"""Engines give what PyTorch gives, for any weights of a known form; what has no graph stays in PyTorch."""

import importlib.util

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from hmrkit.blazepose.network import load_person_mask
from hmrkit.blazepose.with_points import load_with_points
from hmrkit.detectors.yolox import load_network
from hmrkit.engines import _shared_arena, compiled, engine, frozen, graph_name
from hmrkit.errors import UsageError
from hmrkit.weights import find_weights

CROPS = ((1, 3, 256, 256), (3, 3, 256, 256))
NETWORKS = {
    "YoloX": (load_network, ((1, 3, 96, 160), (3, 3, 160, 96))),
    "BlazePoseWithPoints": (load_with_points, CROPS),
    "PersonMask": (load_person_mask, CROPS),
}
INSTALLED = [
    pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"no {name}"))
    for name in ("onnxruntime", "openvino")
]


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("network", NETWORKS)
def test_an_engine_gives_what_pytorch_gives(network, name):
    load, shapes = NETWORKS[network]
    module = load()
    with engine(name):
        run = frozen(module)
    assert run is not module
    for k, shape in enumerate(shapes):
        images = torch.rand(*shape, generator=torch.Generator().manual_seed(k))
        with torch.inference_mode():
            wanted, found = module(images), run(images)
        if network == "PersonMask":  # logits up to 75
            wanted, found = wanted.sigmoid(), found.sigmoid()
        for w, f in zip(*((x,) if isinstance(x, torch.Tensor) else x for x in (wanted, found)), strict=True):
            assert f.shape == w.shape
            torch.testing.assert_close(f, w, atol=1e-3 * max(1.0, float(w.abs().max()) / 50), rtol=1e-3)


@pytest.mark.parametrize("network", ["YoloX", *(pytest.param(n, marks=pytest.mark.slow) for n in (*NETWORKS,)[1:])])
def test_the_compiler_takes_networks_whole_and_once(network):
    """Its front end, which a CPU has too: no part is left to Python, and several images compile once,
    however many they are; one alone is another case."""
    load, (_, shape) = NETWORKS[network]
    module, counter = load(), CompileCounter()
    run = compiled(module, backend=counter)
    with torch.inference_mode():
        for count, compilations in ((2, 1), (3, 1), (5, 1), (1, 2)):
            images = torch.rand(count, *shape[1:])
            torch.testing.assert_close(run(images), module(images))
            assert counter.frame_count == compilations


def test_compiling_is_for_gpus(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module, **_: ("compiled", module))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with engine("compile"):
        on_a_gpu = load_network().to("meta")
        assert frozen(on_a_gpu) == ("compiled", on_a_gpu)
        with pytest.raises(UsageError, match="compile is for GPUs, and the networks are on the CPU"):
            frozen(load_network())


def test_weights_are_the_modules_own():
    """Users' checkpoints of a known form run by the same graph."""
    module, other = load_network(), load_network()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    images = torch.rand(1, 3, 64, 64)
    assert graph_name(module) == graph_name(other)
    with engine("onnxruntime"), torch.inference_mode():
        found = frozen(other)(images)
        torch.testing.assert_close(found, other(images), atol=1e-3, rtol=1e-3)
        assert not np.allclose(found, module(images), atol=1e-2)


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="no onnxruntime")
def test_sessions_share_an_arena():
    """Else each network keeps the memory of its own largest batch."""
    assert _shared_arena()


def test_graphs_hold_no_weights():
    for load, _ in NETWORKS.values():
        assert find_weights(graph_name(load())).stat().st_size < 400_000


def test_what_has_no_graph_and_what_is_not_float32_on_the_cpu_stays_in_pytorch():
    with engine("auto"):
        for module in (nn.Conv2d(3, 3, 1), load_network().half(), load_network().to("meta")):
            assert frozen(module) is module
    with engine("torch"):
        module = load_network()
        assert frozen(module) is module


def test_an_unknown_engine_is_a_usage_error():
    with (
        pytest.raises(UsageError, match="unknown --engine 'tensorflow'; choose one"),
        engine("tensorflow"),
    ):
        pass
