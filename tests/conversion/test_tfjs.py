"""A TensorFlow.js graph model written by hand here must be read back: types, quantisation, order, attributes."""

import base64
import json

import numpy as np
import pytest

from hmrkit.conversion.tfjs import read_tfjs
from hmrkit.errors import WeightsError


@pytest.fixture
def model(tmp_path):
    half = np.array([[1.5, -2.25], [0.0, 1024.0]], "<f2")
    count = np.array([3, -4], "<i4")
    byte = np.array([0, 255], "u1")
    (tmp_path / "m.bin").write_bytes(half.tobytes() + count.tobytes() + byte.tobytes())
    padding = base64.b64encode(b"SAME").decode()
    node = {
        "name": "conv",
        "op": "Conv2D",
        "input": ["image:0", "kernel", "^control"],
        "attr": {
            "padding": {"s": padding},
            "strides": {"list": {"i": ["1", "2"]}},
            "eps": {"f": 0.5},
            "T": {"type": "F"},
        },
    }
    entries = [
        {"name": "kernel", "shape": [2, 2], "dtype": "float32", "quantization": {"dtype": "float16"}},
        {"name": "shape", "shape": [2], "dtype": "int32"},
        {
            "name": "byte",
            "shape": [2],
            "dtype": "float32",
            "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0},
        },
    ]
    manifest = [{"paths": ["m.bin"], "weights": entries}]
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"modelTopology": {"node": [node]}, "weightsManifest": manifest}))
    return path


def test_nodes_and_constants(model):
    nodes, constants = read_tfjs(model)
    attrs = {"padding": "SAME", "strides": [1, 2], "eps": 0.5, "T": "F"}
    assert nodes == [{"name": "conv", "op": "Conv2D", "inputs": ["image", "kernel"], "attrs": attrs}]
    assert constants["kernel"].dtype == np.float32
    assert constants["kernel"].tolist() == [[1.5, -2.25], [0, 1024]]
    assert constants["shape"].tolist() == [3, -4]
    assert constants["byte"].tolist() == [-1, 126.5]


@pytest.mark.parametrize(("data", "problem"), [(b"", "ends inside weight kernel"), (b"x" * 40, "40|18")])
def test_weights_of_another_size(model, data, problem):
    (model.parent / "m.bin").write_bytes(data)
    with pytest.raises(WeightsError, match=problem):
        read_tfjs(model)


def test_weights_that_are_absent(model):
    (model.parent / "m.bin").unlink()
    with pytest.raises(WeightsError, match=r"m\.bin"):
        read_tfjs(model)


def test_another_json(tmp_path):
    (tmp_path / "a.json").write_text('{"layers": []}')
    with pytest.raises(WeightsError, match="graph model"):
        read_tfjs(tmp_path / "a.json")
