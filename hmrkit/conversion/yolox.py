"""YOLOX from Megvii's ONNX export to ``.safetensors`` (needs the `onnx` package: ``pip install 'hmrkit[convert]'``).

The export has batch norms folded and most names lost, but its nodes stand in the order in which the network runs, so
each convolution of our module, in its own running order, takes the next one of the file, shapes checked.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hmrkit.detectors.yolox_net import YoloX
from hmrkit.errors import UsageError, WeightsError
from hmrkit.weights import save_state


def convert(source: Path, out: Path) -> None:
    """Write `source` (``yolox_nano.onnx``) as float32: rounded to float16 it moves some scores by 0.09."""
    model = YoloX()
    convolutions = _in_running_order(model)
    arrays = read_onnx_convolutions(source)
    if len(arrays) != len(convolutions):
        raise WeightsError(f"{source}: expected {len(convolutions)} convolutions of YOLOX-nano, found {len(arrays)}")
    state: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(convolutions, arrays, strict=True):
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        if layer.weight.shape != weight.shape:
            raise WeightsError(f"{source}: {name} should be {tuple(layer.weight.shape)}, found {tuple(weight.shape)}")
        state[f"{name}.weight"], state[f"{name}.bias"] = weight, bias
    save_state(state, out, {"network": "yolox-nano", "licence": "Apache-2.0", "source": "Megvii YOLOX 0.1.1rc0"})


def read_onnx_convolutions(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each ``Conv`` node, in the file's order."""
    try:
        import onnx
    except ImportError:
        raise UsageError("converting YOLOX needs the onnx package; pip install 'hmrkit[convert]'") from None
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's DecodeError is not part of onnx's interface
        raise WeightsError(f"{path}: expected an ONNX file, got {error}") from error
    constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    return [tuple(torch.from_numpy(constants[name].copy()) for name in node.input[1:3]) for node in nodes]  # type: ignore[misc]


def _in_running_order(model: nn.Module) -> list[str]:
    names = {module: name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    order: list[str] = []
    hooks = [module.register_forward_hook(lambda layer, *_: order.append(names[layer])) for module in names]  # type: ignore[index]
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    return order
