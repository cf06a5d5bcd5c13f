"""Graphs of the networks that ship, for `hmrkit.engines`: made by PyTorch's exporter, weights taken out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hmrkit.engines import graph_name, tensors_of
from hmrkit.errors import UsageError
from hmrkit.files import atomic_path
from hmrkit.weights import write_manifest


def networks() -> Iterator[tuple[nn.Module, Tensor, tuple[int, ...]]]:
    """Networks, an input of each, and the axes of it that may have any length."""
    from hmrkit.blazepose.network import load_person_mask
    from hmrkit.blazepose.with_points import load_with_points
    from hmrkit.detectors.yolox import load_network

    yield load_with_points(), torch.rand(2, 3, 256, 256), (0,)
    yield load_person_mask(), torch.rand(2, 3, 256, 256), (0,)
    yield load_network(), 255 * torch.rand(2, 3, 352, 640), (0, 2, 3)


def write_graphs(folder: str | Path) -> list[Path]:
    """Export every network of `networks` into a weights folder; returns the files. UsageError where PyTorch's exporter
    lacks its packages."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401  # PyTorch's exporter works with it
    except ImportError as error:
        raise UsageError(f"exporting wants {error.name}, which is not installed: pip install onnx onnxscript") from None
    written = []
    for module, example, free in networks():
        axes = (dict.fromkeys(free, torch.export.Dim.AUTO),)
        program = torch.onnx.export(
            module, (example,), dynamo=True, dynamic_shapes=axes, input_names=["images"], optimize=False, verbose=False
        )
        assert program is not None
        model = program.model_proto
        _take_weights_out(model.graph, tensors_of(module))
        for node in model.graph.node:  # where in our sources it comes from
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
        model.graph.ClearField("value_info")
        path = Path(folder) / graph_name(module)
        with atomic_path(path) as temporary:
            temporary.write_bytes(model.SerializeToString(deterministic=True))
        written.append(path)
    write_manifest(folder)
    return written


def _take_weights_out(graph: Any, tensors: dict[str, Tensor]) -> None:
    """Leave of a module's tensors their names, kinds and shapes. All of them must be in use: an engine gets all of a
    module's, and refuses one that its graph does not know."""
    import onnx

    unused = tensors.keys() - {tensor.name for tensor in graph.initializer}
    assert not unused, f"not in use: {sorted(unused)}"
    for tensor in graph.initializer:
        if tensor.name in tensors:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="module")
