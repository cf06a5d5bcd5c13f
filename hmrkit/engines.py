"""Engines: what runs a frozen network. PyTorch everywhere, on GPUs compiled on request; on CPUs ONNX Runtime, which is
faster.

A network's graph (``weights/graphs/CLASS-FINGERPRINT.onnx``, from `hmrkit train graphs`) has no weights in it: the
module gives its own when the engine starts. So every checkpoint of a known form runs, users' own included, and nothing
is kept twice. The fingerprint is that of the names and shapes of the module's tensors. A module without a graph, on
another device than the CPU or in half precision, runs in PyTorch.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hmrkit.device import trim_heap
from hmrkit.errors import UsageError, WeightsError
from hmrkit.members import unknown
from hmrkit.weights import find_weights

log = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "compile", "onnxruntime", "openvino")
Frozen = Callable[[Tensor], Any]
_chosen: ContextVar[str] = ContextVar("engine", default="auto")


@contextlib.contextmanager
def engine(name: str) -> Iterator[None]:
    """Networks that are loaded inside run by this engine. UsageError for one that is unknown or not installed."""
    if name not in ENGINES:
        raise unknown("--engine", name, ENGINES)
    if name not in ("auto", "torch", "compile"):
        _check_installed(name, name)
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def frozen(module: nn.Module) -> Frozen:
    """What runs `module` in inference: one tensor in; out comes the module's tensor, or a tuple where it has several.

    The module is on its device and changes no more. ONNX Runtime and OpenVINO run what has a graph, in float32 on the
    CPU. Engine ``auto`` is ONNX Runtime where it is installed. UsageError for ``compile`` on a CPU.
    """
    name = _chosen.get()
    first = next(module.parameters())
    if name == "compile":
        if first.device.type == "cpu":
            raise UsageError(
                "--engine compile is for GPUs, and the networks are on the CPU; leave out --engine, or name a GPU by "
                "--device"
            )
        _check_installed(name, "triton")
        return compiled(module)
    if name == "torch" or first.device.type != "cpu" or first.dtype != torch.float32:
        return module
    try:
        graph = find_weights(graph_name(module)).read_bytes()
    except WeightsError:
        log.debug("%s has no graph: it runs in PyTorch", type(module).__name__)
        return module
    if name == "openvino":
        return _openvino(graph, module)
    if importlib.util.find_spec("onnxruntime") is None:
        return module
    return _onnxruntime(graph, module)


def _check_installed(name: str, package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UsageError(f"--engine {name} wants the package {package}, which is not installed: pip install {package}")


def compiled(module: nn.Module, backend: str | Callable[..., Any] = "inductor") -> Frozen:
    """`module` by `torch.compile`. It compiles in the first pass of one image, and again in the first of more; each
    takes minutes."""
    return torch.compile(module, dynamic=True, fullgraph=True, backend=backend)


def graph_name(module: nn.Module) -> str:
    """Where a network's graph is in a weights folder."""
    shapes = sorted(f"{key} {tuple(tensor.shape)}" for key, tensor in tensors_of(module).items())
    return f"graphs/{type(module).__name__}-{hashlib.sha256(repr(shapes).encode()).hexdigest()[:8]}.onnx"


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, those that are kept in no file as well."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _onnxruntime(graph: bytes, module: nn.Module) -> Frozen:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Between layers threads wait in a loop, which is faster; after a run they would take the cores from PyTorch's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    # All networks work in one arena, as large as the one that wants most; a plan for each size of batch would be a
    # second one. Together these take 1158 MiB down to 823 with the detector and BlazePose, at the same speed.
    if _shared_arena():
        options.add_session_config_entry("session.use_env_allocators", "1")
    options.enable_mem_pattern = False
    weights = {key: tensor.detach().contiguous().numpy() for key, tensor in tensors_of(module).items()}
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
    options.add_external_initializers(list(weights), values)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    del weights, values
    trim_heap()

    def run(images: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = session.run(None, {given.name: images.float().contiguous().numpy()})
        return _tensors([np.asarray(array) for array in found])

    return run


@cache
def _shared_arena() -> bool:
    """Whether this process has one memory arena for the sessions that ask for it; it is made at the first call."""
    import onnxruntime

    arena = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", arena, 0, onnxruntime.OrtMemType.DEFAULT)
    usual = ("arena_extend_strategy", "initial_chunk_size_bytes", "max_dead_bytes_per_chunk")
    try:
        onnxruntime.create_and_register_allocator(
            place, onnxruntime.OrtArenaCfg({"max_mem": 0, **dict.fromkeys(usual, -1)})
        )
    except (AttributeError, RuntimeError) as error:
        log.debug("networks get an arena each: %s", error)
        return False
    return True


def _openvino(graph: bytes, module: nn.Module) -> Frozen:
    import onnx
    import openvino

    model = onnx.load_from_string(graph)
    weights = tensors_of(module)
    for tensor in model.graph.initializer:
        if tensor.external_data:
            del tensor.external_data[:]
            tensor.data_location = onnx.TensorProto.DEFAULT
            tensor.raw_data = weights[tensor.name].detach().contiguous().numpy().tobytes()
    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    network = core.compile_model(core.read_model(model.SerializeToString()), "CPU", threads)

    def run(images: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = network([images.float().contiguous().numpy()])
        return _tensors([found[i].copy() for i in range(len(network.outputs))])

    return run


def _tensors(arrays: Sequence[np.ndarray]) -> Tensor | tuple[Tensor, ...]:
    tensors = [torch.from_numpy(array) for array in arrays]
    return tuple(tensors) if len(tensors) > 1 else tensors[0]
