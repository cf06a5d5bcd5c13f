"""What is compared with other libraries is the same work, and what is not here is named."""

import importlib.util
import time

import numpy as np
import pytest

from hmrkit.benchmark import peers
from hmrkit.options import Options


def test_the_ratio_is_how_many_times_as_long_the_other_takes():
    found = peers.alternately(lambda: time.sleep(0.002), lambda: time.sleep(0.02), rounds=3)
    assert found["ratio"] > 3
    assert found["spread"][0] <= found["ratio"] <= found["spread"][1]
    assert found["ms"] < found["peer_ms"]


def test_what_is_missing_is_a_line_and_the_rest_is_measured(monkeypatch, tmp_path):
    here = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "smplx" else here(name))
    monkeypatch.setattr(peers, "_blazepose", lambda *_: (_ for _ in ()).throw(peers.MissingPeerError("none")))
    found = peers.compare_peers(str(tmp_path), Options())
    assert found["16 posed bodies"] == {"peer": "smplx", "skipped": "smplx is not installed"}
    assert [row.get("skipped") is None for row in found.values()] == [False, False, True, True]


@pytest.mark.parametrize("kind", ["obj", "ply"])
def test_both_write_the_same_mesh(kind):
    trimesh = pytest.importorskip("trimesh")
    own, other = peers._writers(kind)
    read = []
    for data in (own(), other()):
        content = data if isinstance(data, bytes) else data.encode()
        read.append(trimesh.load(trimesh.util.wrap_as_stream(content), file_type=kind, process=False))
    np.testing.assert_allclose(read[0].vertices, read[1].vertices, atol=1e-6)
    np.testing.assert_array_equal(read[0].faces, read[1].faces)
