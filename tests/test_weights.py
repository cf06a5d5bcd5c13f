"""Where weights are searched for, what is checked, and what users read."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import types
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hmrkit import weights
from hmrkit.cli.docs import page
from hmrkit.conversion import convert
from hmrkit.errors import UsageError, WeightsError
from hmrkit.files import sha256_of
from hmrkit.weights import (
    MANIFEST,
    ORDER,
    available,
    find_parts,
    find_weights,
    load_into,
    load_state,
    public_files,
    read_manifest,
    read_metadata,
    save_state,
    search_places,
    shipped_folder,
    verify,
    where_to_get,
    write_manifest,
)

NAME = "lifter/mine.safetensors"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The four folders in the order in which they are searched, none of them there yet."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("HMRKIT_WEIGHTS", str(tmp_path / "variable"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(weights, "shipped_folder", lambda: tmp_path / "carried")
    return [tmp_path / "variable", tmp_path / "project/weights", tmp_path / "user/hmrkit", tmp_path / "carried"]


def put(folder: Path, value: float = 1.0, name: str = NAME) -> Path:
    save_state({"a": torch.full((2,), value)}, folder / name)
    return folder / name


def one_line(error: pytest.ExceptionInfo[WeightsError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_code_errors_and_docs_name_one_order(folders) -> None:
    assert [place for place, _ in search_places()] == list(ORDER[1:])
    assert [folder.resolve() for _, folder in search_places()] == folders
    with pytest.raises(WeightsError) as error:
        find_weights("regressors/absent.safetensors")
    paragraph = next(part for part in page("bodies").split("\n\n") if "searched for in this order" in part)
    listed = " ".join(paragraph.replace("`", "").split())
    for text in (one_line(error), listed.partition("in this order")[2]):
        places = [text.index(place) for place in ORDER]
        assert places == sorted(places)


def test_a_missing_public_file_says_who_gives_it(monkeypatch) -> None:
    with pytest.raises(WeightsError, match=r"SMPL's body, which https://smpl\.is\.tue\.mpg\.de gives"):
        find_weights("nowhere/smpl_neutral.PKL")
    for entry in public_files():
        assert {"files", "what", "option", "register", "licence"} <= entry.keys()
        assert set(entry.get("sha256", {})) <= set(entry["files"])
        assert all(len(digest) == 64 for digest in entry.get("sha256", {}).values())
    assert where_to_get("my_own.pt") == ""


def test_the_first_folder_that_has_the_file_wins(folders) -> None:
    for folder in reversed(folders):
        path = put(folder)
        assert find_weights(NAME).resolve() == path


def test_a_file_that_is_named_wins_over_every_folder(folders, tmp_path: Path) -> None:
    put(folders[0])
    mine = put(tmp_path / "elsewhere")
    assert find_weights(mine) == mine


def test_missing_weights_name_every_place(folders) -> None:
    with pytest.raises(WeightsError) as error:
        find_weights(NAME)
    message = one_line(error)
    for folder in (folders[0], Path("weights"), *folders[2:]):
        assert str(folder / NAME) in message
    assert "$HMRKIT_WEIGHTS" in message
    assert error.value.exit_code == 3


def test_the_variable_and_home_may_be_absent(folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HMRKIT_WEIGHTS")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = put(tmp_path / "home/.local/share/hmrkit")
    assert find_weights(NAME) == path


def test_available_lists_each_name_once_with_its_licence(folders) -> None:
    put(folders[3], 1.0)
    put(folders[3], 2.0, "body/other.safetensors")
    manifest = write_manifest(folders[3])
    entries = json.loads(manifest.read_text())
    entries[NAME]["licence"] = "Apache-2.0"
    manifest.write_text(json.dumps(entries))
    (folders[3] / "body/README.md").write_text("not weights")
    assert {e["name"]: e["licence"] for e in available()} == {NAME: "Apache-2.0", "body/other.safetensors": ""}
    mine = put(folders[0])
    found = {entry["name"]: entry for entry in available()}
    assert len(found) == 2
    # Another file, so another licence.
    assert found[NAME] == {"name": NAME, "path": str(mine), "place": "$HMRKIT_WEIGHTS", "licence": ""}
    assert found["body/other.safetensors"]["place"] == "the package"


def test_damaged_files_are_noticed_and_the_users_own_are_not_called_damaged(folders) -> None:
    path = put(folders[3], 1.0)
    write_manifest(folders[3])
    assert verify(NAME) == hashlib.sha256(path.read_bytes()).hexdigest()
    put(folders[0], 5.0)
    assert load_state(NAME)["a"].tolist() == [5, 5]
    (folders[0] / NAME).unlink()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    with pytest.raises(WeightsError, match="damaged") as error:
        load_state(NAME)
    assert sha256_of(path) in one_line(error)


def test_writing_a_manifest_keeps_what_people_wrote_and_drops_what_is_gone(folders) -> None:
    path = put(folders[1])
    put(folders[1], name="gone.safetensors")
    manifest = write_manifest(folders[1])
    entries = json.loads(manifest.read_text())
    entries[NAME] |= {"source": "us", "licence": "CC0-1.0"}
    manifest.write_text(json.dumps(entries))
    (folders[1] / "gone.safetensors").unlink()
    put(folders[1], 9.0)
    os.utime(path, ns=(2, 2))
    write_manifest(folders[1])
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_manifest(folders[1]) == {NAME: {"source": "us", "licence": "CC0-1.0", "sha256": sha256}}


def test_a_broken_manifest_is_named(folders) -> None:
    put(folders[1])
    (folders[1] / MANIFEST).write_text("{")
    with pytest.raises(WeightsError, match=MANIFEST) as error:
        verify(NAME)
    one_line(error)


def test_every_carried_file_is_in_the_manifest_as_it_is() -> None:
    manifest = read_manifest(shipped_folder())
    carried = {
        p.relative_to(shipped_folder()).as_posix(): p
        for p in shipped_folder().rglob("*")
        if p.is_file() and p.suffix not in (".md", ".json", ".png")  # pages, their images, the manifest and lists
    }
    assert set(manifest) == set(carried)
    for name, path in carried.items():
        assert sha256_of(path) == manifest[name]["sha256"], f"{name} changed: run hmrkit.weights.write_manifest"
        assert all(manifest[name].get(field) for field in ("licence", "source", "summary")), name


def test_strict_loading_names_what_does_not_fit() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = {
        "0.weight": torch.ones(3, 2),
        "0.bias": torch.ones(4),
        "1.weight": torch.ones(1, 3),
        "2.bias": torch.ones(1),
    }
    with pytest.raises(WeightsError) as error:
        load_into(module, state, "some.pth")
    message = one_line(error)
    for part in ("some.pth", "1 missing (1.bias)", "1 unexpected (2.bias)", "0.bias is (4,) not (3,)"):
        assert part in message
    for key, value in module.state_dict().items():
        torch.testing.assert_close(value, before[key])
    load_into(module, before, "right.pth")


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"model": s, "epoch": 3}, lambda s: {"state_dict": s}, lambda s: {"model_pos": s}]
)
def test_checkpoints_of_trainers_load(tmp_path: Path, wrap) -> None:
    state = {"module.a": torch.ones(2), "module.n": torch.tensor(4)}
    torch.save(wrap(state), tmp_path / "c.pth")
    loaded = load_state(tmp_path / "c.pth")
    assert sorted(loaded) == ["a", "n"]
    assert loaded["n"] == 4


def test_numpy_numbers_beside_the_state_do_no_harm(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(2)}, "best": np.float64(3), "step": np.int64(2)}, tmp_path / "c.pt")
    assert load_state(tmp_path / "c.pt")["a"].tolist() == [1, 1]


class ModelCheckpoint:
    """Stands for a callback of a trainer."""

    __module__ = "pytorch_lightning.callbacks.model_checkpoint"


class CfgNode(dict):
    """Stands for settings that are a dictionary with attributes."""

    __module__ = "yacs.config"

    def __init__(self, *items) -> None:
        super().__init__(*items)
        self.__dict__["__immutable__"] = True


@pytest.mark.parametrize("zipped", [True, False])
def test_settings_and_callbacks_of_trainers_are_passed_over(zipped, tmp_path: Path, monkeypatch) -> None:
    """The packages need not be there: their classes are read as nothing, and never called."""
    for made in (ModelCheckpoint, CfgNode):
        parts = made.__module__.split(".")
        for k in range(len(parts)):
            name = ".".join(parts[: k + 1])
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        setattr(sys.modules[made.__module__], made.__name__, made)
    whole = {
        "callbacks": {ModelCheckpoint: {"best": torch.zeros(1), "of": defaultdict(dict)}},
        "hyper_parameters": CfgNode({"PARE": CfgNode({"JOINTS": [1, 2], "any": Any})}),
        "state_dict": {"model.a": torch.ones(2)},
    }
    torch.save(whole, tmp_path / "last.ckpt", _use_new_zipfile_serialization=zipped)
    monkeypatch.undo()
    assert torch.equal(load_state(tmp_path / "last.ckpt")["model.a"], torch.ones(2))


def test_the_state_of_a_random_generator_beside_the_state_is_left_out(tmp_path: Path) -> None:
    """Published VideoPose3D checkpoints hold one."""
    torch.save({"random_state": np.random.RandomState(3), "model_pos": {"a": torch.ones(2)}}, tmp_path / "c.bin")
    assert load_state(tmp_path / "c.bin")["a"].tolist() == [1, 1]


def test_half_precision_files_fill_float32_modules(tmp_path: Path) -> None:
    layer, other = nn.Linear(2, 3), nn.Linear(2, 3)
    save_state({key: value.half() for key, value in layer.state_dict().items()}, tmp_path / "a.safetensors")
    load_into(other, load_state(tmp_path / "a.safetensors"), "a")
    assert other.weight.dtype == torch.float32
    torch.testing.assert_close(other.weight, layer.weight.half().float(), atol=0, rtol=0)


class _Danger:
    def __reduce__(self):
        return os.mkdir, ("danger",)


def test_a_checkpoint_that_would_run_code_is_refused_in_one_line(folders, tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(2)}, "args": _Danger()}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match="mkdir") as error:
        load_state(tmp_path / "evil.pt")
    assert "weights_only" not in one_line(error)  # torch's own advice is how to let it run
    assert not Path("danger").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\x80\x02}q\x00."])
def test_files_that_are_no_weights_are_refused_in_one_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="bad") as error:
        load_state(path)
    one_line(error)


def test_the_same_state_gives_the_same_bytes_and_reads_back(tmp_path: Path) -> None:
    state = {"b": torch.arange(6.0).reshape(2, 3).T, "a": torch.arange(3, dtype=torch.float16)}
    metadata = {key: key.upper() for key in "zyxwvutsr"}
    for i in range(2):
        save_state(state, tmp_path / f"{i}.safetensors", metadata)
    assert (tmp_path / "0.safetensors").read_bytes() == (tmp_path / "1.safetensors").read_bytes()
    loaded = load_state(tmp_path / "0.safetensors")
    assert all(torch.equal(loaded[key], state[key]) and loaded[key].dtype == state[key].dtype for key in state)
    assert read_metadata(tmp_path / "0.safetensors") == metadata
    assert [p for p in tmp_path.rglob("*") if p.suffix in (".partial", ".part")] == []


def test_shards_read_as_one_file_and_only_when_all_are_there(folders) -> None:
    state = {name: torch.full((100,), float(i)) for i, name in enumerate("abcdef")}
    save_state(state, folders[3] / NAME, {"network": "mine"}, shards=3)
    shards = [folders[3] / f"lifter/mine-{i}of3.safetensors" for i in (1, 2, 3)]
    assert find_parts(NAME) == shards
    loaded = load_state(NAME)
    assert set(loaded) == set(state)
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    assert max(path.stat().st_size for path in shards) < 2 * min(path.stat().st_size for path in shards)
    assert read_metadata(NAME) == {"network": "mine"}
    digests = "".join(sha256_of(path) for path in shards)
    assert verify(NAME) == hashlib.sha256(digests.encode()).hexdigest()
    with pytest.raises(WeightsError, match="kept in 3 shards"):
        find_weights(NAME)
    # A whole file in a folder that comes first takes their place.
    assert find_parts(put(folders[0])) == find_parts(NAME) == [folders[0] / NAME]
    (folders[0] / NAME).unlink()
    shards[1].unlink()
    with pytest.raises(WeightsError, match="not found"):
        load_state(NAME)


def test_unknown_converters_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="yolox-nano, movenet-thunder, blazepose-heavy"):
        convert("resnet", tmp_path / "a", tmp_path / "b")
