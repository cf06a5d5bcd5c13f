"""Reads TensorFlow.js graph models (``.json`` topology and manifest, ``.bin`` weights) without TensorFlow.

Format: https://www.tensorflow.org/js/guide/conversion. The topology is a TensorFlow ``GraphDef`` in JSON, where byte
strings are base64; the weights are the manifest's tensors one after the other in the files that it names.
"""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from hmrkit.errors import WeightsError

# Quantised tensors are stored in this type and read back as float32.
_STORED = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "uint16": "<u2", "uint8": "u1", "bool": "?"}


class Node(TypedDict):
    """One operation: `inputs` are node names in order (no ``:0``, no control edges); `attrs` are plain values."""

    name: str
    op: str
    inputs: list[str]
    attrs: dict[str, Any]


def read_tfjs(json_path: str | Path) -> tuple[list[Node], dict[str, np.ndarray]]:
    """Graph in the file's (topological) order, and its constants by node name: float32, or int32 as they are.

    Raises WeightsError where the file is no graph model, or its weights are absent or of another size.
    """
    json_path = Path(json_path)
    try:
        model = json.loads(json_path.read_text(encoding="utf-8"))
        nodes = [_node(raw) for raw in model["modelTopology"]["node"]]
        groups = model["weightsManifest"]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise WeightsError(f"{json_path}: expected a TensorFlow.js graph model (.json), got {error!r}") from error
    weights: dict[str, np.ndarray] = {}
    for group in groups:
        parts = [json_path.parent / name for name in group["paths"]]
        missing = [str(part) for part in parts if not part.is_file()]
        if missing:
            raise WeightsError(f"{json_path} names weights that are not beside it: {', '.join(missing)}")
        data = b"".join(part.read_bytes() for part in parts)
        offset = 0
        for entry in group["weights"]:
            stored = np.dtype(_STORED[(entry.get("quantization") or entry)["dtype"]])
            count = math.prod(entry["shape"])
            if offset + count * stored.itemsize > len(data):
                raise WeightsError(f"{parts[0]} ends inside weight {entry['name']}; download it again")
            values = np.frombuffer(data, stored, count, offset).reshape(entry["shape"])
            weights[entry["name"]] = _dequantised(values, entry)
            offset += count * stored.itemsize
        if offset != len(data):
            raise WeightsError(f"{parts[0]}: its manifest describes {offset} bytes, the file has {len(data)}")
    return nodes, weights


def _dequantised(values: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    quantization = entry.get("quantization") or {}
    if "scale" in quantization:  # affine: integers that stand for scale * q + min
        return values.astype(np.float32) * np.float32(quantization["scale"]) + np.float32(quantization["min"])
    return values.astype(np.int32 if entry["dtype"] == "int32" else np.float32)


def _node(raw: dict[str, Any]) -> Node:
    inputs = [name.removesuffix(":0") for name in raw.get("input", []) if not name.startswith("^")]
    attrs = {key: _value(value) for key, value in raw.get("attr", {}).items()}
    return Node(name=raw["name"], op=raw["op"], inputs=inputs, attrs=attrs)


def _value(attr: dict[str, Any]) -> Any:
    """An ``AttrValue`` as a plain value: {"i": "3"} -> 3, {"s": base64} -> str, {"list": {"i": [..]}} -> list."""
    kind: str
    value: Any
    kind, value = next(iter(attr.items()), ("", None))
    if kind == "i":
        return int(value)
    if kind == "f":
        return float(value)
    if kind == "s":
        return base64.b64decode(value).decode()
    if kind == "list":
        return [_value({item_kind: item}) for item_kind, items in value.items() for item in items]
    if kind == "shape":
        return [int(dim.get("size", -1)) for dim in value.get("dim", [])]
    return value
