"""Weights: where they are looked for, what is refused, and that the message says why."""

import json
import os

import pytest
import torch
from torch import nn

from hmrkit import weights
from hmrkit.errors import WeightsError


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The four folders of the search, best first, all empty: environment, working folder, user's data, carried."""
    places = [
        tmp_path / "environment",
        tmp_path / "here" / "weights",
        tmp_path / "data" / "hmrkit",
        tmp_path / "carried",
    ]
    for place in places:
        place.mkdir(parents=True)
    monkeypatch.setenv("HMRKIT_WEIGHTS", str(places[0]))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(weights, "carried_folder", lambda: places[3])
    return places


def test_the_first_folder_that_has_the_file_wins(folders):
    for place in folders:
        (place / "a.npz").write_bytes(str(place).encode())
    for place in folders:
        found = weights.find_weights("a.npz")
        assert found.read_bytes() == str(place).encode()
        found.unlink()
    with pytest.raises(WeightsError) as error:
        weights.find_weights("a.npz")
    assert all(str(place.name) in str(error.value) for place in folders)


def test_an_explicit_path_needs_no_folder(folders, tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"x")
    assert weights.find_weights(path) == path
    with pytest.raises(WeightsError, match="absent"):
        weights.find_weights(tmp_path / "absent.pt")


def test_a_damaged_file_is_noticed_and_a_users_own_is_not_held_to_it(folders):
    user, carried = folders[2], folders[3]
    weights.save_state({"a": torch.ones(3)}, carried / "net" / "a.safetensors")
    weights.write_manifest(carried)
    assert weights.verify("net/a.safetensors") == weights.sha256_of(carried / "net" / "a.safetensors")

    weights.save_state({"a": torch.zeros(3)}, user / "net" / "a.safetensors")
    assert weights.load_state("net/a.safetensors")["a"].sum() == 0
    (user / "net" / "a.safetensors").unlink()

    path = carried / "net" / "a.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))  # not remembered under its old hash, however coarse the file system's clock
    with pytest.raises(WeightsError, match="expected sha256"):
        weights.load_state("net/a.safetensors")


def test_the_manifest_keeps_what_was_written_by_hand(folders):
    path = folders[3] / "a.safetensors"
    weights.save_state({"a": torch.ones(3)}, path)
    (folders[3] / weights.MANIFEST).write_text(json.dumps({"a.safetensors": {"licence": "CC0-1.0", "sha256": "old"}}))
    weights.write_manifest(folders[3])
    entry = weights.read_manifest(folders[3])["a.safetensors"]
    assert entry == {"licence": "CC0-1.0", "sha256": weights.sha256_of(path)}
    assert weights.available() == [{"name": "a.safetensors", "path": str(path), "licence": "CC0-1.0"}]


@pytest.mark.parametrize("wrapping", [None, "state_dict", "model", "model_pos"])
def test_checkpoints_are_unwrapped(tmp_path, wrapping):
    state = {"module.layer.weight": torch.arange(3.0)}
    torch.save({wrapping: state, "epoch": 3} if wrapping else state, tmp_path / "a.pth")
    loaded = weights.load_state(tmp_path / "a.pth")
    assert list(loaded) == ["layer.weight"]
    assert torch.equal(loaded["layer.weight"], torch.arange(3.0))


def test_numpy_numbers_in_a_checkpoint_are_no_obstacle(tmp_path):
    import numpy as np

    torch.save({"model": {"a": torch.ones(2)}, "best": np.float64(3), "step": np.int64(2)}, tmp_path / "a.pt")
    assert weights.load_state(tmp_path / "a.pt")["a"].tolist() == [1, 1]


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    torch.save({"model": Code(str(tmp_path / "made"))}, tmp_path / "bad.pt")
    with pytest.raises(WeightsError, match="mkdir"):
        weights.load_state(tmp_path / "bad.pt")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_a_file_that_is_no_weights_is_one_clear_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(WeightsError, match=name):
        weights.load_state(tmp_path / name)


def test_strict_loading_names_every_kind_of_misfit():
    layer = nn.Linear(2, 3)
    with pytest.raises(WeightsError) as error:
        weights.load_into(layer, {"weight": torch.ones(2, 2), "scale": torch.ones(1)}, "some.pt")
    text = str(error.value)
    assert all(part in text for part in ("some.pt", "1 missing (bias)", "1 unexpected (scale)", "(2, 2) not (3, 2)"))
    assert "\n" not in text


def test_half_precision_files_fill_float32_modules(tmp_path):
    layer, other = nn.Linear(2, 3), nn.Linear(2, 3)
    weights.save_state({key: value.half() for key, value in layer.state_dict().items()}, tmp_path / "a.safetensors")
    weights.load_into(other, weights.load_state(tmp_path / "a.safetensors"), "a")
    assert other.weight.dtype == torch.float32
    assert torch.equal(other.weight, layer.weight.half().float())


def test_the_carried_files_are_whole():
    """Each file that ships and is in the manifest has the manifest's hash."""
    for name in weights.read_manifest(weights.carried_folder()):
        weights.verify(weights.carried_folder() / name)
