"""What is this file, and what is it good for? What `hmrkit weights inspect` does.

A file is known by what is in it, never by its name. Nothing that it names is run. A published regressor's or keypoint
network's file is then held against the network that reads it, made without memory of its own, and results are read as
those of a clip, so that a file with parts missing or of other sizes is refused here and not in a run.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hmrkit.body.files import gender_in_name, read_smpl_file
from hmrkit.body.smplx_files import KINDS
from hmrkit.cli.known_files import NOTHING, RESUMED, UNCERTAINTY, Known, known_file, near_miss, use_of
from hmrkit.errors import InputError, WeightsError
from hmrkit.files import sha256_of
from hmrkit.keypoints import KEYPOINTS
from hmrkit.pipeline import STAGES
from hmrkit.regressors import REGRESSORS
from hmrkit.regressors.files import beside
from hmrkit.results.files import read_contents, read_file
from hmrkit.results.formats import read_people, recognised
from hmrkit.results.imported import results_sha256
from hmrkit.take import is_take, load_take
from hmrkit.types import VideoInfo
from hmrkit.untrusted.arrays import open_regular
from hmrkit.untrusted.checkpoints import read_checkpoint
from hmrkit.untrusted.json_files import read_json
from hmrkit.weights import find_parts, load_state, read_manifest, weight_folders

FRAMES, SIZE, HZ = 3600, (1920, 1080), 30  # of the clip that results are read as those of
BODIES = {"smpl": "SMPL", "smplx": "SMPL-X", "hmrkit": "the free body"}


@dataclass(frozen=True)
class Finding:
    """What is known of a file: `use`, the options that read it, or a word on that; `first_keys` of an unknown one."""

    path: str
    sha256: str
    what: str
    use: str = NOTHING
    needs: str = ""
    tensors: int = 0
    parameters: int = 0
    first_keys: tuple[str, ...] = ()


def inspect(source: str | Path) -> Finding:
    """What the file or folder `source` is: a checkpoint, a body of SMPL's family, a take, another tool's results, or
    unknown. WeightsError where it is absent, damaged, or would have to run code to be read; InputError where it is a
    damaged take or damaged results."""
    if Path(source).is_dir():
        return _results(Path(source), read_file(source), {"path": str(source), "sha256": results_sha256(source)})
    path = find_parts(source)[0]
    _refuse_junk(path)
    facts: dict[str, Any] = {"path": str(path), "sha256": sha256_of(path)}
    if path.suffix == ".json":
        return _measured(path, facts)
    if is_take(path):
        return _take(path, facts)
    if _holds_arrays(path):
        contents = _contents(path)
        named = contents if isinstance(contents, dict) else {}
        if {"kintree_table", b"kintree_table"} & named.keys():
            return _body(read_smpl_file(path), path, facts)
        return _results(path, contents, facts)
    return _network(path, facts)


def lines(finding: Finding) -> list[str]:
    """The same for people to read."""
    size = f"{finding.tensors} tensors, {finding.parameters / 1e6:.1f} million numbers" if finding.tensors else ""
    texts = {
        "what": finding.what + (f"; {size}" if size else ""),
        "use": finding.use,
        "needs": finding.needs,
        "keys": ", ".join(finding.first_keys) + ", ..." if finding.first_keys else "",
        "sha256": finding.sha256,
    }
    return [finding.path, *(f"  {name:7s}{text}" for name, text in texts.items() if text)]


def _holds_arrays(path: Path) -> bool:
    """Whether a file is a zip of arrays or a plain pickle, as bodies and results are, and no checkpoint of PyTorch."""
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        return path.suffix in (".pkl", ".pk", ".npz", ".npy", ".smpl")


def _contents(path: Path) -> Any:
    try:
        with open_regular(path) as stream:
            return read_contents(stream, path)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle can fail anywhere inside the unpickler, with any exception
        raise WeightsError(
            f"{path}: wanted a body or results, found something else or a cut-off file ({type(error).__name__}); "
            "get it again"
        ) from error


def _refuse_junk(path: Path) -> None:
    """WeightsError where a file begins as nothing does that is known here."""
    with open(path, "rb") as file:
        start = file.read(12)
    zipped, pickled, safetensors = start[:2] == b"PK", start[:1] == b"\x80", start[8:9] == b"{"
    old_pickle = path.suffix == ".pkl" and start[:1] in (b"(", b"c", b"}", b"]")  # SMPL's, of Python 2
    compressed, array = start[:1] == b"\x78" or start[:2] == b"\x1f\x8b", start[:6] == b"\x93NUMPY"  # joblib's, NumPy's
    is_json = path.suffix == ".json" and start[:1] == b"{"
    if zipped or pickled or safetensors or old_pickle or compressed or array or is_json:
        return
    text = start.isascii() and start.decode("ascii").replace("\n", " ").isprintable()
    found = f"text, {start.decode().strip()!r} ..." if text else f"other data, {start.hex(' ')} ..."
    raise WeightsError(
        f"{path}: wanted a checkpoint (PyTorch's or .safetensors), a body (.pkl, .npz), a take or results of a tool, "
        f"found {found if start else 'an empty file'}"
    )


def _network(path: Path, facts: dict[str, Any]) -> Finding:
    """A file of tensors; a tool's results may be one, too."""
    try:
        state = load_state(path, mapped=True)
    except WeightsError:
        if _is_of_a_tool(path, _tree(path)):
            return _results(path, read_file(path), facts)
        raise
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    sizes: dict[str, Any] = {"tensors": len(shapes), "parameters": sum(math.prod(shape) for shape in shapes.values())}
    if summary := _shipped_as(path):
        return Finding(**facts, **sizes, what=f"hmrkit's own: {summary}", use="found by itself")
    if known := known_file(path, shapes):
        _check(known, path)
        use = use_of(known, path)
        if "model_id" in state:  # of A and W
            use = use.replace("BODY", bytes(state["model_id"].tolist()).decode("ascii", "replace"))
        return Finding(**facts, **sizes, what=known.what, use=use, needs=known.needs)
    tree = None if path.suffix == ".safetensors" else _tree(path)
    if isinstance(tree, dict) and tree.keys() >= RESUMED:
        what = f"a checkpoint of `hmrkit train` after {tree['step']} steps"
        return Finding(**facts, **sizes, what=what, use=f"hmrkit train NAME --resume --out {path.parent}")
    if _is_of_a_tool(path, tree):
        return _results(path, read_file(path), facts)
    near = near_miss({key.removeprefix("model."): shape for key, shape in shapes.items()})
    what = f"unknown; resembles {near}" if near else "unknown"
    return Finding(**facts, **sizes, what=what, first_keys=tuple(shapes)[:5])


def _tree(path: Path) -> Any:
    """All that a PyTorch file holds, its tensors left there; None where it cannot be read."""
    try:
        return read_checkpoint(path, mapped=True)
    except Exception:  # what is wrong with it `load_state` says
        return None


def _is_of_a_tool(path: Path, contents: Any) -> bool:
    try:
        return bool(recognised(path, contents))
    except InputError:
        return False


def _results(path: Path, contents: Any, facts: dict[str, Any]) -> Finding:
    """Another tool's results, read as those of a clip of their size."""
    if not _is_of_a_tool(path, contents):
        keys = tuple(map(str, contents))[:5] if isinstance(contents, dict) else ()
        return Finding(**facts, what="unknown", first_keys=keys)
    size = contents.get("image_size", SIZE)  # hmrkit's own results know it
    numbers = np.arange(FRAMES)
    width, height = (int(side) for side in np.asarray(size).reshape(2))
    clip = VideoInfo("", "", width, height, Fraction(HZ), FRAMES, numbers, numbers / HZ)
    name, found = read_people(path, contents, clip)
    count = f"{len(found.people)} {'people' if found.linked else 'detections, not yet linked'}"
    return Finding(
        **facts,
        what=f"results of {name}: {count} on {BODIES[found.body]}, {found.gender}",
        use=f"hmrkit import {path} --video CLIP -o take.npz"
        + (f"; --mesh file:{path}" if found.space == "camera" else ""),
        needs="the clip that they are of" + ("" if found.body == "hmrkit" else f"; --body {found.body} for its shapes"),
    )


def _take(path: Path, facts: dict[str, Any]) -> Finding:
    take = load_take(path)
    models = ", ".join(sorted({params.model for params in take.body.values()}))
    what = f"a take of hmrkit: {len(take.tracks)} people in {take.video.path}, {models or 'no bodies yet'}"
    last = ([stage for stage in STAGES if stage in take.provenance] or ["nothing"])[-1]
    use = f"hmrkit export, render, view, info {path}; --mesh file:{path}" if models else f"hmrkit info {path}"
    return Finding(**facts, what=f"{what}; done: {last}", use=use)


def _measured(path: Path, facts: dict[str, Any]) -> Finding:
    """What `hmrkit train uncertainty` wrote."""
    try:
        pairs = tuple(read_json(path, "JSON of measured errors").items())
        ours = all("frames" in entry and "measured_on" in entry for _, entry in pairs)
    except (InputError, AttributeError, TypeError) as error:
        raise WeightsError(f"{path}: wanted JSON with an object, found something else or a cut-off file") from error
    if not (pairs and ours):
        return Finding(**facts, what="unknown", first_keys=tuple(key for key, _ in pairs)[:5])
    what = f"errors of pose streams, measured by hmrkit: {'; '.join(key for key, _ in pairs)}"
    return Finding(**facts, what=what, use=use_of(UNCERTAINTY, path))


def _check(known: Known, path: Path) -> None:
    """Hold a published file's tensors against the network that reads them; WeightsError where they do not fit. What
    needs another file is held against it where that is there."""
    if not known.has or (known.files and not beside(path, known.files)):
        return
    try:
        if known.family == "keypoints":
            KEYPOINTS[known.member].load_module().published(load_state(path, mapped=True), path)
        elif known.family == "regressor":
            with torch.device("meta"), warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")  # which is what is meant
                REGRESSORS[known.member].load_module().load(known.member, path, device="meta")
    except WeightsError as error:
        raise WeightsError(f"{path}: {known.what}, but incomplete or of other sizes: {error}") from error


def _body(contents: dict[str, Any], path: Path, facts: dict[str, Any]) -> Finding:
    """Of a file's contents by name."""
    tree = np.shape(contents.get("kintree_table", ()))
    if not tree or tree[-1] not in KINDS or not {"v_template", "shapedirs"} <= contents.keys():
        return Finding(**facts, what="unknown", first_keys=tuple(contents)[:5])
    kind = {"SMPL": "SMPL", "SMPLH": "SMPL-H", "SMPLX": "SMPL-X"}[KINDS[tree[-1]]]
    vertices, shapes = len(contents["v_template"]), np.shape(contents["shapedirs"])[-1]
    gender = gender_in_name(path) or "its name says no gender"
    what = f"a body in the form of {kind}, {gender}; {vertices} vertices, {tree[-1]} joints, {shapes} shape components"
    needs = "" if kind == "SMPL" else "the package smplx (pip install hmrkit[smplx])"
    return Finding(**facts, what=what, use=f"--body {path}", needs=needs)


def _shipped_as(path: Path) -> str:
    """What a weights folder's manifest says of a file in it; "" where it says nothing, or the file is another one."""
    for folder in (folder.resolve() for folder in weight_folders()):
        if path.resolve().is_relative_to(folder):
            entry = read_manifest(folder).get(path.resolve().relative_to(folder).as_posix(), {})
            if entry.get("sha256") == sha256_of(path):
                return entry.get("summary", path.name)
    return ""
