"""Files made to do harm: refused in one line, before anything runs or fills memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from commands import hmrkit
from made_results import dump_joblib

from hmrkit.body.files import find_body, read_smpl_file
from hmrkit.body.model import load_body
from hmrkit.datasets import DatasetOptions
from hmrkit.datasets.h36m import read_object
from hmrkit.datasets.npz import SpinNpz
from hmrkit.datasets.pickles import read_pickle
from hmrkit.errors import InputError, WeightsError
from hmrkit.evaluation.results import open_results
from hmrkit.evaluation.score_files import read_record, read_scores
from hmrkit.regressors.files import read_network, read_regressor
from hmrkit.regressors.hmr import HmrNetwork, build
from hmrkit.results.files import read_file
from hmrkit.take import load_take
from hmrkit.untrusted.arrays import most_of, read_npz
from hmrkit.untrusted.checkpoints import read_checkpoint
from hmrkit.untrusted.values import limit_of, unpickle
from hmrkit.weights import load_into, load_state, read_metadata

READERS = {"body": read_smpl_file, "dataset": read_pickle, "results": read_file, "weights": load_state}
P = b"\x80\x04"
DTYPE = b"cnumpy\ndtype\n"
FROM_BUFFER = b"cnumpy.core.numeric\n_frombuffer\n"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def kind(name: str, state: bytes = b"") -> bytes:
    return DTYPE + b"(" + text(name) + b"I00\nI01\ntR" + state


def array(name: str | bytes, shape: tuple[int, ...], data: bytes) -> bytes:
    made = kind(name) if isinstance(name, str) else name
    sizes = b"(" + b"".join(map(number, shape)) + b"t"
    return FROM_BUFFER + b"(B" + struct.pack("<I", len(data)) + data + made + sizes + text("C") + b"tR"


def hides_objects() -> bytes:
    """A kind of 8 plain bytes whose state says that a field of it is a pointer."""
    field = b"}" + text("a") + b"(" + kind("O8") + b"K\0ts"
    return kind("V8", b"(K\x03" + text("|") + b"N(" + text("a") + b"t" + field + b"K\x08K\x01K\0tb")


def doubled(levels: int) -> bytes:
    """A list of two of a list of two of ..."""
    same = (b"j" + struct.pack("<I", k) for k in range(levels))
    return P + b"]\x94" + b"".join(b"](" + inner * 2 + b"e\x94" for inner in same) + b"."


PICKLES = {
    "a kind that hides a pointer": P + b"}" + text("v") + array(hides_objects(), (3,), b"A" * 24) + b"s.",
    "a kind filled as another": P + array(kind("f8", b"(K\x03" + text("<") + b"NNNK\x01K\x01K\0tb"), (3,), b"A" * 24)
    + b".",
    "objects from bytes": P + array("O8", (3,), b"A" * 24) + b".",
    "a shape without bytes": P + array("f8", (1 << 40,), b"A" * 24) + b".",
    "sizes that overflow": P + array("f8", (1 << 32, 1 << 32, 0), b"") + b".",
    "endless items without size": P + array("S0", (1 << 50,), b"") + b".",
    "a state for a class": P + b"cnumpy\nndarray\n}b.",
    "a state for a function": P + FROM_BUFFER + b"}" + text("__code__") + b"K\x01sb.",
    "two states": P + kind("f8", b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb") + b"}b.",
    "a list that holds itself": P + b"]\x94h\0a.",
    "many levels": P + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
    "a list that doubles": doubled(60),
    "one array many times": P + b"(" + array("u1", (1 << 20,), bytes(1 << 20)) + b"\x94" + b"h\0" * 10**5 + b"l.",
    "copies of one text": P + text("a" * (1 << 20)) + b"\x940c_codecs\nencode\n\x940("
    + b"h\1h\0\x85R" * 10**4 + b"l.",
    "nothing but objects": P + b"(" + b"]\x94" * (4 * 10**5) + b"l.",
    "a number of 2 GB": P + b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\1.",
    "a number of a million digits": b"I" + b"9" * 10**6 + b"\n.",
    "bytes of an exabyte": P + b"\x8e" + struct.pack("<Q", 1 << 60) + b"a.",
    "keys that collide": P + b"}(" + b"".join(
        b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(1, 20_000)) + b"u.",
    "keys of many parts": P + b"}" + b"(" + b"N" * 100 + b"tNs.",
    "a sparse matrix of a terabyte": pickle.dumps(scipy.sparse.coo_matrix((10**6, 10**6))),
    "a selection that grows": P + b"cchumpy.ch\nSelect\n)\x81}(" + text("a") + array("U1000", (1,), bytes(4000))
    + text("idxs") + array("i8", (1 << 18,), bytes(8 << 18)) + b"ub.",
    "another file": P + b"cjoblib.numpy_pickle\nNDArrayWrapper\n)\x81.",
    "an extension": P + b"\x82\1.",
    "a buffer from outside": P + b"\x97.",
}  # fmt: skip


REASONS = {
    "a kind that hides a pointer": "kind 'V8'", "a kind filled as another": "contradicts itself",
    "objects from bytes": "found other data", "a shape without bytes": "found other data",
    "sizes that overflow": "cannot reshape", "endless items without size": "without size",
    "a state for a class": "no new object", "a state for a function": "no new object", "two states": "no new object",
    "a list that holds itself": "holds itself", "many levels": "more than 100 levels",
    "a list that doubles": "unfolds to more", "one array many times": "unfolds to more",
    "copies of one text": "unfolds to more", "nothing but objects": "more than 528812 objects",
    "a number of 2 GB": "a number of", "a number of a million digits": "a number of", "bytes of an exabyte": "cut off",
    "keys that collide": "a key that", "keys of many parts": "a key that",
    "a sparse matrix of a terabyte": "unfolds to more", "a selection that grows": "unfolds to more",
    "another file": "NDArrayWrapper", "an extension": "no opcode", "a buffer from outside": "no opcode",
}  # fmt: skip


@pytest.mark.parametrize("what", PICKLES)
def test_pickles_made_to_do_harm_are_refused_in_one_line(what, tmp_path) -> None:
    with pytest.raises((WeightsError, ValueError, EOFError), match=REASONS[what]):
        unpickle(io.BytesIO(PICKLES[what]))
    path = tmp_path / "made.pkl"
    path.write_bytes(PICKLES[what])
    reader = list(READERS.values())[len(what) % len(READERS)]
    with pytest.raises((InputError, WeightsError)) as error:
        reader(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 600


class Calls:
    """Pickles into a call."""

    def __reduce__(self):
        return os.mkdir, ("it-ran",)


def test_a_call_inside_any_container_is_never_made(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    objects = np.array({"a": Calls()}, object)
    np.savez("a.npz", v_template=objects)
    np.save("a.npy", objects)
    for zipped in (True, False):
        torch.save(
            {"state_dict": {"a": torch.ones(2)}, "x": Calls()}, f"{zipped}.pt", _use_new_zipfile_serialization=zipped
        )
    dump_joblib({"pose": np.array([Calls()], object)}, Path("a.pkl"))
    for name, readers in {
        "a.npz": (read_smpl_file, read_file, lambda p: read_object(Path(p), "v_template")), "a.npy": (read_file,),
        "True.pt": (load_state, read_file), "False.pt": (load_state, read_file), "a.pkl": (read_file,),
    }.items():  # fmt: skip
        for reader in readers:
            with pytest.raises((InputError, WeightsError), match=r"refused|wanted"):
                reader(name)
    assert not Path("it-ran").exists()


def bomb(path: Path, member: str, size: int) -> Path:
    """A zip file whose one member is zeros."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(member, "w", force_zip64=True) as part,
    ):
        part.write(header.getvalue())
        for _ in range(size >> 24):
            part.write(bytes(1 << 24))
    return path


READ_IN_CHILD = """
import resource, sys
from hmrkit.results.files import read_file
from hmrkit.weights import load_state
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
for path in sys.argv[2:]:
    try: globals()[sys.argv[1]](path); print('read')
    except Exception as error: print(type(error).__name__, error)
print((peak() - before) / 1024)
"""


def peak_mb(reader: str, *paths: Path) -> tuple[float, list[str]]:
    """By how much a child's memory grew while it read files, and what it said of each."""
    child = hmrkit(reader, *paths, code=READ_IN_CHILD)
    assert child.returncode == 0, child.stderr
    *lines, last = child.stdout.decode().splitlines()
    return float(last), lines


def test_bombs_fill_no_memory(tmp_path) -> None:
    """Each would take from half a gigabyte to an exabyte; limits for such small files are about 64 MB."""
    paths = [bomb(tmp_path / "a.npz", "v_template.npy", 1 << 28)]
    claims = io.BytesIO()
    np.lib.format.write_array_header_1_0(claims, {"descr": "<f8", "fortran_order": False, "shape": (1 << 36,)})
    for name, raw in {"b.npz": claims.getvalue() + bytes(64), "nested.npz": paths[0].read_bytes()}.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("v_template.npy", raw)
        paths.append(tmp_path / name)
    (tmp_path / "packed.pkl").write_bytes(zlib.compress(pickle.dumps(bytes(1 << 28)), 1))
    tensor = torch.zeros(1)
    torch.save({"state_dict": {"a": tensor.expand(1 << 30)}}, tmp_path / "claims.pt")
    paths += [tmp_path / "packed.pkl", tmp_path / "claims.pt", bomb(tmp_path / "zip.pt", "archive/data.pkl", 1 << 24)]
    for k, data in enumerate(PICKLES.values()):
        (tmp_path / f"{k}.pkl").write_bytes(data)
        paths.append(tmp_path / f"{k}.pkl")
    grew, lines = peak_mb("read_file", *paths)
    assert [line for line in lines if not line.startswith("InputError")] == []
    assert len(lines) == len(paths)
    assert grew < 300
    grew, lines = peak_mb("load_state", tmp_path / "claims.pt", tmp_path / "zip.pt")
    assert all("refused" in line for line in lines)
    assert grew < 100


def test_zips_of_arrays_that_unfold_or_hold_pickles_are_refused_by_all_who_read_them(tmp_path) -> None:
    """Takes, also in a pipe, predictions, data sets and kept errors of an evaluation; each has its own one line."""
    path = bomb(tmp_path / "a.npz", "manifest.npy", 1 << 27)
    np.savez(tmp_path / "pickled.npz", manifest=np.array([{}], object), imgname=np.array([{}], object))
    readers = (load_take, lambda p: load_take(io.BytesIO(p.read_bytes())), open_results, read_scores, read_rows)
    for read in readers:
        for source, word in ((path, "unfolds"), (tmp_path / "pickled.npz", "pickle")):
            with pytest.raises(InputError) as caught:
                read(source)
            assert "\n" not in str(caught.value)
            assert read in readers[:2] or word in str(caught.value)
    assert read_record(path) is None


def read_rows(path):
    return SpinNpz("npz", path, DatasetOptions())._rows()


def test_limits_grow_with_the_file_and_leave_room_for_what_is_measured() -> None:
    assert limit_of(10**9) > 4 * 10**9
    array = np.random.default_rng(0).normal(size=10**5)
    stream = io.BytesIO()
    np.savez_compressed(stream, a=array, b=np.zeros(10**6))  # measured numbers, and a large array of zeros
    assert most_of(len(stream.getvalue())) > array.nbytes + 8 * 10**6
    assert set(read_npz(stream)) == {"a", "b"}
    shared = [array] * 20
    back = unpickle(io.BytesIO(pickle.dumps(shared)))
    assert all(item is back[0] for item in back)  # what is shared in a file takes no more here


def test_arrays_are_one_s_own_and_truth_values_are_0_or_1() -> None:
    raw = pickle.dumps([np.arange(3), np.array([True, True, False])], 4)
    (numbers, truths) = unpickle(io.BytesIO(raw.replace(b"\1\1\0", b"\xff\7\0")))
    numbers += 1
    assert numbers.tolist() == [1, 2, 3]
    assert truths.view(np.uint8).tolist() == [1, 1, 0]


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_outside_their_storage_are_refused(zipped, tmp_path) -> None:
    whole = {"state_dict": {"a": torch.arange(200.0)[3:190]}, "b": torch.ones(2)}
    path = tmp_path / "a.pt"
    torch.save(whole, path, _use_new_zipfile_serialization=zipped)
    assert torch.equal(load_state(path)["a"], torch.arange(3.0, 190))
    for size, offset in ((b"K\xbb", b"K\x3f"), (b"K\xff", b"K\3")):
        change(path, b"K\3K\xbb", offset + size)
        with pytest.raises(WeightsError, match="larger than its storage"):
            load_state(path)
        change(path, offset + size, b"K\3K\xbb")


def change(path: Path, old: bytes, new: bytes) -> None:
    """Change what a checkpoint's pickle says, in a zip file with the right checksum."""
    if not zipfile.is_zipfile(path):
        path.write_bytes(path.read_bytes().replace(old, new))
        return
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(
                name, source.read(name).replace(old, new) if name.endswith("data.pkl") else source.read(name)
            )


def safetensors(header: dict | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


@pytest.mark.parametrize("content", [
    safetensors({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, bytes(16)),
    safetensors({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 16]}}, bytes(16)),
    safetensors({"a": {"dtype": "F32", "shape": [1 << 32, 1 << 32], "data_offsets": [0, 16]}}, bytes(16)),
    safetensors(b"{}", length=1 << 60), safetensors(b"[" * 10**5),
])  # fmt: skip
def test_safetensors_that_claim_more_than_they_hold(content, tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    for reader in (load_state, read_metadata, read_network):
        with pytest.raises(WeightsError) as error:
            reader(path)
        assert "\n" not in str(error.value)
        assert str(path) in str(error.value)


def test_a_network_s_description_leads_nowhere_else_and_names_no_absurd_size(tmp_path) -> None:
    from hmrkit.weights import save_state

    path = tmp_path / "a.safetensors"
    for network, message in {
        json.dumps({"backbone": "embedded", "hidden": 10**9}): "sizes up to 8192, found hidden 1000000000",
        json.dumps({"backbone": "embedded", "still": "../../secret"}): "found '../../secret': refused",
        "[" * 10**5: "found neither",
    }.items():
        shared = {"shared": "0"} if "still" in network else {}
        save_state({"backbone.a": torch.zeros(1)}, path, {"network": network, **shared})
        with pytest.raises(WeightsError, match=message):
            read_regressor("hmr", path, build, HmrNetwork)


def test_nan_is_refused_where_a_file_is_full_of_it(tmp_path) -> None:
    layer = torch.nn.Linear(2, 3)
    state = layer.state_dict() | {"bias": torch.tensor([0, float("nan"), 0]).half()}
    with pytest.raises(WeightsError, match=r"1 with NaN \(bias\)"):
        load_into(layer, state, "some.pt")
    model = read_smpl_file(find_body())
    for key in ("v_template", "weights", "J_regressor"):
        np.savez(tmp_path / "body.npz", **(model | {key: np.full_like(model[key], np.nan)}))
        with pytest.raises(WeightsError, match=f"{key}: expected finite numbers"):
            load_body(tmp_path / "body.npz")
    np.savez(tmp_path / "body.npz", **(model | {"f": model["f"] + 10**6}))
    with pytest.raises(WeightsError, match="f: expected numbers of"):
        load_body(tmp_path / "body.npz")


def test_paths_stay_in_their_folder(tmp_path) -> None:
    outside = tmp_path / "outside.npy"
    np.save(outside, np.zeros(3))
    folder = tmp_path / "results"
    (folder / "hps").mkdir(parents=True)
    (folder / "hps/hps_track_0.npy").symlink_to(outside)
    with pytest.raises(InputError, match="a link out of it"):
        read_file(folder)
    (folder / "hps/hps_track_0.npy").unlink()
    os.mkfifo(folder / "hps/hps_track_0.npy")
    with pytest.raises(InputError, match="not a regular file"):  # and does not wait for a writer
        read_file(folder)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(outside, "../../escaped.npy")
    assert read_file(tmp_path / "a.npz").keys() == {"../../escaped"}
    assert not list(tmp_path.parent.rglob("escaped*"))
    for reader in READERS.values():
        with pytest.raises((InputError, WeightsError)):
            reader("/dev/zero")


def test_a_cut_off_checkpoint_is_named_as_such(tmp_path):

    from hmrkit.weights import load_state

    torch.save({"weight": torch.zeros(64, 64)}, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:-200])
    with pytest.raises(WeightsError, match="cut off"):
        load_state(tmp_path / "cut.pt")


def test_tensors_that_stay_in_their_file_are_the_same(tmp_path):
    """Views of several storages, each with an offset of its own."""
    rows = torch.arange(24.0).reshape(4, 6)
    state = {"a": torch.ones(5), "rows": rows, "part": rows[1:, 2:4], "half": torch.arange(7).half()}
    torch.save(state, tmp_path / "state.pt")
    mapped = read_checkpoint(tmp_path / "state.pt", mapped=True)
    for key, value in state.items():
        torch.testing.assert_close(mapped[key], value, atol=0, rtol=0)
