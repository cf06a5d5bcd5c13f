"""Reads many damaged files in a process of its own: ``python hostile_children.py SEED COUNT`` prints counts as JSON.

The files are mutations of every form that hmrkit reads, small: bodies of Python 2's and today's protocols, datasets,
results (joblib's too), checkpoints of both containers. A reader may give a value, which is then read through, or one of
hmrkit's errors in one line; anything else is counted as wrong. A signal ends the process, which its parent sees.
"""

from __future__ import annotations

import faulthandler
import io
import json
import pickle
import resource
import sys
import tempfile
import time
import types
import zipfile
import zlib
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from made_datasets import dump_python2
from made_results import dump_joblib

from hmrkit.body.files import read_smpl_file
from hmrkit.datasets.pickles import read_pickle
from hmrkit.errors import InputError, WeightsError
from hmrkit.results.files import read_file
from hmrkit.weights import load_state

# What a file that is made to do harm would put in: names, kinds of arrays, sizes, opcodes.
TOKENS = (
    b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n",
    b"cnumpy\nndarray\n",
    b"cnumpy.core.numeric\n_frombuffer\n", b"ccopyreg\n_reconstructor\n", b"cbuiltins\nobject\n",
    b"ctorch\nFloatStorage\n",
    b"cos\nsystem\n", b"X\x02\0\0\0V8", b"X\x02\0\0\0O8", b"X\x02\0\0\0f8", b"K\xff", b"J\xff\xff\xff\x7f",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"h\0", b"2", b"R", b"b", b"t", b"(", b"0", b"N", b"\x94", b"Q",
    b"]", b"}",
)  # fmt: skip


def bodies() -> dict[str, bytes]:
    """A few arrays in the forms that SMPL's files have had."""
    made = {}
    for module, name in (("chumpy.ch", "Ch"), ("chumpy.reordering", "Select"), ("scipy.sparse.csc", "csc_matrix")):
        sys.modules[module] = types.ModuleType(module)
        made[name] = type(name, (), {"__module__": module})
        setattr(sys.modules[module], name, made[name])
    sys.modules["chumpy"] = types.ModuleType("chumpy")

    def with_state(name, **state):
        instance = made[name]()
        instance.__dict__.update(state)
        return instance

    sparse = scipy.sparse.csc_matrix(np.eye(3, 5))
    old = {
        "v_template": with_state(
            "Select", a=with_state("Ch", x=np.arange(6.0)), idxs=np.array([1, 3]), preferred_shape=(2, 1),
        ),
        "J_regressor": with_state(
            "csc_matrix", _shape=(3, 5), data=sparse.data, indices=sparse.indices, indptr=sparse.indptr
        ),
        "shapedirs": with_state("Ch", x=np.ones((2, 3)), _dirty_vars=set(), _itr=None), "f": np.arange(6, dtype="u4"),
        "bs_type": "lrotmin", b"bs_style": b"lbs", "names": np.array(["a", "bc"]), "part": np.array({"a": 1}, object),
    }  # fmt: skip
    forms = {f"body {k}": pickle.dumps(old, k).replace(b"numpy._core", b"numpy.core") for k in (0, 1, 2)}
    today = {"J_regressor": scipy.sparse.csr_array(np.eye(3)), "v_template": np.asfortranarray(np.ones((2, 3)))}
    return forms | {f"body today {k}": pickle.dumps(today, k) for k in (2, 4, 5)} | {"body.npz": npz(old["part"])}


def npz(value) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, part=value, f=np.eye(3), b=np.array([True, False]), s=np.array(["a"]))
    return stream.getvalue()


def datasets(folder: Path) -> dict[str, bytes]:
    content = {
        "sequence": "bus", "betas": [np.arange(4.0), np.arange(3)], "good": np.array([True, False]), "n": 3,
        "o": np.array(["x", None, np.ones(2)], object), "t": (1.5, -1, 2**40), "s": np.float32(2),
    }  # fmt: skip
    dump_python2(content, folder / "old.pkl")
    forms = {f"dataset {k}": pickle.dumps(content, k) for k in (0, 2, 3, 4, 5)}
    return forms | {"dataset old": (folder / "old.pkl").read_bytes()}


def results(folder: Path) -> dict[str, bytes]:
    people = defaultdict(dict)
    people[1] |= {
        "pose": np.ones((3, 4)),
        "o": np.array([None, "a"], object),
        "ids": [np.int64(3)],
        "e": np.zeros((0, 3)),
    }
    tensors = {"pose": torch.ones(2, 3), "half": torch.ones(2).half(), "named": OrderedDict(a=1)}
    dump_joblib(people, folder / "a.pkl")
    forms = {"results joblib": (folder / "a.pkl").read_bytes(), "results tensors": pickle.dumps(tensors)}
    forms["results packed"] = forms["results joblib"]
    np.save(folder / "a.npy", tensors, allow_pickle=True)
    return forms | {"results.npy": (folder / "a.npy").read_bytes()}


def checkpoints() -> dict[str, bytes]:
    state = {"a.weight": torch.ones(2, 3), "a.t": torch.arange(6.0).reshape(2, 3).T, "n": torch.tensor(4)}
    whole = {"state_dict": OrderedDict(state), "best": np.float64(3), "lr": [1e-3], "rows": torch.zeros(1).expand(4)}
    forms = {}
    for zipped in (True, False):
        stream = io.BytesIO()
        torch.save(whole, stream, _use_new_zipfile_serialization=zipped)
        forms[f"checkpoint {'zip' if zipped else 'old'}"] = stream.getvalue()
    return forms


READERS = {"body": read_smpl_file, "dataset": read_pickle, "results": read_file, "checkpoint": load_state}


def mutated(data: bytes, random: np.random.Generator, others: list[bytes]) -> bytes:
    """One or two changes: bits, bytes, tokens, parts of this or another file, a cut."""
    out = bytearray(data)
    for _ in range(1 + int(random.integers(0, 4) == 0)):
        at = int(random.integers(0, max(len(out), 1)))
        length = int(random.integers(1, 30))
        kind = random.integers(0, 8)
        if kind == 0 and out:
            out[at] ^= 1 << int(random.integers(0, 8))
        elif kind == 1 and out:
            out[at] = int(random.integers(0, 256))
        elif kind == 2:
            out[at : at + int(random.integers(0, 3))] = TOKENS[random.integers(0, len(TOKENS))]
        elif kind == 3:
            del out[at : at + length]
        elif kind == 4:
            start = int(random.integers(0, len(data)))
            out[at:at] = data[start : start + length]
        elif kind == 5:
            other = others[random.integers(0, len(others))]
            start = int(random.integers(0, len(other)))
            out[at : at + length] = other[start : start + length]
        elif kind == 6:
            size = int(random.choice([1, 2, 4, 8]))
            out[at : at + size] = (b"\xff" * (size - 1) + b"\x7f") if random.integers(0, 2) else b"\0" * size
        elif random.integers(0, 4) == 0:
            del out[at:]
    return bytes(out)


def inside(data: bytes, random: np.random.Generator, others: list[bytes]) -> bytes:
    """A zip file with one member changed, whose checksum is right again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        names = source.namelist()
        chosen = [name for name in names if name.endswith(("data.pkl", "part.npy"))]
        for name in names:
            raw = source.read(name)
            target.writestr(name, mutated(raw, random, others) if name in chosen else raw)
    return out.getvalue()


def read_through(value) -> None:
    """Touch every part of a value: a forged pointer would be followed here."""
    if isinstance(value, dict):
        for key, item in value.items():
            hash(key)
            read_through(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            read_through(item)
    elif isinstance(value, np.ndarray):
        read_through(value.tolist())
    elif isinstance(value, torch.Tensor):
        value.double().sum().item() if value.dtype != torch.bool else value.any()
    else:
        repr(value)


def main(seed: int, count: int) -> None:
    faulthandler.enable()
    random = np.random.default_rng(seed)
    folder = Path(tempfile.mkdtemp())
    forms = bodies() | datasets(folder) | results(folder) | checkpoints()
    others = list(forms.values())
    path = folder / "file"

    def read(name: str, data: bytes) -> None:
        suffix = ".npz" if name.endswith(".npz") else ".pkl"
        target = path.with_suffix(suffix)
        target.write_bytes(zlib.compress(data) if name == "results packed" else data)
        read_through(READERS[name.split()[0].split(".")[0]](target))

    for name, data in forms.items():
        read(name, data)  # as they are, all of them can be read
    counts: dict[str, Counter] = {name: Counter() for name in forms}
    wrong, slowest = [], 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for k in range(count):
        name = list(forms)[k % len(forms)]
        zipped = forms[name][:2] == b"PK" and random.integers(0, 4) > 0
        data = (inside if zipped else mutated)(forms[name], random, others)
        start = time.monotonic()
        try:
            read(name, data)
            counts[name]["read"] += 1
        except (InputError, WeightsError) as error:
            counts[name]["refused"] += 1
            if "\n" in str(error):
                wrong.append(f"{name}: more than a line: {error!r}")
        except BaseException as error:
            wrong.append(f"{name}: {error!r}: {data.hex()}")
        slowest = max(slowest, time.monotonic() - start)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"counts": counts, "wrong": wrong[:5], "grown_mb": grown / 1024, "slowest_s": slowest}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
