"""The skeleton of a character in a GLB or FBX file, in its bind pose."""

from __future__ import annotations

import importlib.util
import json
import struct
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.errors import InputError, UsageError
from hmrkit.scene.rigs import rotation_from_xyzw
from hmrkit.untrusted import limits

_DAMAGED = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, struct.error)
_LARGEST = {5120: 127, 5121: 255, 5122: 32767, 5123: 65535}  # of glTF's normalised integers
_JSON, _BINARY = 0x4E4F534A, 0x004E4942  # chunks of a GLB


@dataclass(frozen=True)
class Bones:
    """A tree of n bones, parents first: `names`, `parents` (-1: the root, the first), `rotations` (n,3,3) and `places`
    (n,3) m in the character's space, y up. `floor`: how high the lowest point of its meshes is there, m, in the bind
    pose; None without meshes. `unit`: how long a unit of the root's own space is, m."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    rotations: np.ndarray
    places: np.ndarray
    floor: float | None = None
    unit: float = 1.0


def read_bones(path: Path) -> Bones:
    """The largest tree of bones of a ``.glb``, ``.vrm`` (a GLB) or ``.fbx``. InputError for a file without; UsageError
    without ufbx."""
    readers = {".glb": _read_glb, ".vrm": _read_glb, ".fbx": _read_fbx}
    if path.suffix.lower() not in readers:
        raise InputError(
            f"{path}: wanted a character (.glb, .vrm or .fbx), found another file; export it as one of them"
        )
    try:
        if path.stat().st_size > limits.CHARACTER_BYTES:
            raise InputError(
                f"{path}: wanted a character of at most {limits.CHARACTER_BYTES >> 30} GB; leave its textures out"
            )
        found, floor = readers[path.suffix.lower()](path)
        if not found:
            raise InputError(f"{path}: wanted a character with bones, found none; export it with its skeleton")
        return replace(_largest_tree(found), floor=floor if floor < np.inf else None)
    except OSError as error:
        raise InputError(f"{path}: wanted a character, found {error.strerror}; check the path") from error
    except _DAMAGED as error:
        raise InputError(f"{path}: wanted a character, found a damaged file ({error}); export it again") from error


def _largest_tree(found: list[tuple[str, int, np.ndarray]]) -> Bones:
    """`found`: name, parent and matrix (3,4) of each bone, in any order."""
    below: dict[int, list[int]] = {}
    for number, (_, parent, _) in enumerate(found):
        below.setdefault(parent, []).append(number)
    trees = []
    for root in below.get(-1, []):
        tree = [root]
        for number in tree:  # grows meanwhile: parents come first
            tree += below.get(number, [])
        trees.append(tree)
    if not trees:
        raise ValueError("bones in a circle")
    tree = max(trees, key=len)
    place = {number: i for i, number in enumerate(tree)}
    matrices = np.stack([found[number][2] for number in tree])
    u, scale, v = np.linalg.svd(matrices[:, :, :3])  # without the scale that exporters leave in
    return Bones(
        tuple(found[number][0] for number in tree),
        tuple(place.get(found[number][1], -1) for number in tree),
        u @ v,
        matrices[:, :, 3],
        unit=float(scale[0].mean()),
    )


# ------------------------------------------------------------------------- readers: bones, and where the meshes end

Found = tuple[list[tuple[str, int, np.ndarray]], float]


def _read_fbx(path: Path) -> Found:
    if importlib.util.find_spec("ufbx") is None:
        raise UsageError("characters in FBX are read by ufbx: pip install 'hmrkit[fbx]', or give a .glb")
    program = Path(__file__).with_name("read_fbx.py")
    try:
        done = subprocess.run(
            [sys.executable, str(program), str(path.resolve())],
            capture_output=True,
            timeout=limits.CHARACTER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"ufbx reads it for more than {limits.CHARACTER_SECONDS} s") from None
    if done.returncode != 0:
        raise ValueError(f"ufbx: {done.stderr.decode(errors='replace').strip().splitlines()[-1:]}")
    bones, floor = json.loads(done.stdout)
    return [(str(name), int(parent), np.array(columns).T) for name, parent, columns in bones], float(floor)


def _read_glb(path: Path) -> Found:
    document, binary = _chunks(path.read_bytes())
    nodes = document["nodes"]
    parent = {child: number for number, node in enumerate(nodes) for child in node.get("children", ())}
    bound: dict[int, np.ndarray] = {}
    floor = np.inf
    for number, skin in enumerate(document.get("skins", ())):
        joints = skin["joints"]
        if "inverseBindMatrices" not in skin:
            bound |= {joint: _world(nodes, parent, joint) for joint in joints}
            continue
        # The bind pose is in the mesh's own axes and unit: where the nodes put the topmost joint shows which they are.
        inverse = _matrices(document, binary, skin["inverseBindMatrices"])[: len(joints)]
        top = next((i for i, joint in enumerate(joints) if parent.get(joint) not in joints), None)
        if top is None:
            raise ValueError("a skin without a topmost joint")
        placed = _world(nodes, parent, joints[top]) @ inverse[top]
        bound |= dict(zip(joints, placed @ np.linalg.inv(inverse), strict=True))
        meshes = [document["meshes"][node["mesh"]] for node in nodes if node.get("skin") == number and "mesh" in node]
        floor = min([floor, *(_lowest(document, mesh, placed) for mesh in meshes)])
    number = {joint: i for i, joint in enumerate(sorted(bound))}
    return [
        (str(nodes[joint].get("name", f"node_{joint}")), number.get(parent.get(joint, -1), -1), bound[joint][:3])
        for joint in number
    ], floor


def _chunks(content: bytes) -> tuple[dict[str, Any], bytes]:
    """JSON and binary part of a GLB (glTF 2.0, section 4.4)."""
    magic, version, _ = struct.unpack_from("<4sII", content)
    if (magic, version) != (b"glTF", 2):
        raise ValueError("no binary glTF 2.0")
    at, parts = 12, {}
    while at + 8 <= len(content):
        size, kind = struct.unpack_from("<II", content, at)
        parts.setdefault(kind, content[at + 8 : at + 8 + size])
        at += 8 + size
    return json.loads(parts[_JSON]), parts.get(_BINARY, b"")


def _matrices(document: dict[str, Any], binary: bytes, number: int) -> np.ndarray:
    """(n,4,4) of an accessor of float matrices, which glTF stores column by column."""
    accessor = document["accessors"][number]
    view = document["bufferViews"][accessor["bufferView"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    if start < 0 or not 0 <= accessor["count"] <= len(binary) // 64:
        raise ValueError("bind matrices beyond the file's end")
    values = np.frombuffer(binary, "<f4", 16 * accessor["count"], start)
    return values.reshape(-1, 4, 4).swapaxes(1, 2).astype(np.float64)


def _lowest(document: dict[str, Any], mesh: dict[str, Any], placed: np.ndarray) -> float:
    """How high the lowest corner of a mesh's bounds is, where `placed` (4,4) puts it."""
    low = np.inf
    for primitive in mesh["primitives"]:
        accessor = document["accessors"][primitive["attributes"]["POSITION"]]
        bounds = np.array([accessor["min"], accessor["max"]], float)
        if accessor.get("normalized"):
            bounds /= _LARGEST[accessor["componentType"]]
        corners = np.stack(np.meshgrid(*bounds.T), -1).reshape(-1, 3)
        low = min(low, float((corners @ placed[1, :3]).min() + placed[1, 3]))
    return low


def _world(nodes: list[dict[str, Any]], parent: dict[int, int], number: int) -> np.ndarray:
    """(4,4): from a node to the scene."""
    made, seen = np.eye(4), 0
    while number >= 0:
        node, own = nodes[number], np.eye(4)
        if "matrix" in node:
            own = np.array(node["matrix"], float).reshape(4, 4).T
        else:
            own[:3, :3] = rotation_from_xyzw(np.array(node.get("rotation", (0, 0, 0, 1)), float)) * np.array(
                node.get("scale", (1, 1, 1)), float
            )
            own[:3, 3] = node.get("translation", (0, 0, 0))
        made, number, seen = own @ made, parent.get(number, -1), seen + 1
        if seen > len(nodes):
            raise ValueError("nodes in a circle")
    return made
