"""Facts about a triangle mesh: whether it is closed, its size and its volume (through trimesh)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from hmrkit.errors import InputError

MESH_SUFFIXES = (".obj", ".ply", ".stl", ".off", ".glb", ".3mf")
_AXES = {"x": 0, "y": 1, "z": 2}
_METRES_PER_UNIT = {"mm": 0.001, "cm": 0.01, "m": 1.0}


def mesh_facts(vertices: np.ndarray, faces: np.ndarray, up: str = "y", unit: str = "m") -> dict[str, Any]:
    """Facts of a mesh with vertices (V,3) in `unit` and faces (F,3).

    ``vertices`` (distinct places), ``faces``; ``watertight``: every edge belongs to two faces; ``consistent_faces``:
    neighbours run round the same way; ``size_m`` along x, y, z, ``height_m`` along `up`; ``volume_l``: negative where
    faces look inwards, None where the mesh is not watertight.
    """
    mesh = trimesh.Trimesh(np.asarray(vertices, np.float64) * _METRES_PER_UNIT[unit], faces, process=False)
    mesh.merge_vertices(merge_tex=True, merge_norm=True)  # STL shares none, glTF parts them along seams
    size = np.ptp(mesh.vertices, axis=0)
    watertight = bool(mesh.is_watertight)
    return {
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "watertight": watertight,
        "consistent_faces": bool(mesh.is_winding_consistent),
        "size_m": size.tolist(),
        "height_m": float(size[_AXES[up]]),
        "volume_l": 1000 * float(mesh.volume) if watertight else None,
    }


def file_facts(path: str | Path, up: str = "y", unit: str = "m") -> dict[str, dict[str, Any]]:
    """Name -> `mesh_facts` of every mesh of a file whose name ends in one of `MESH_SUFFIXES`.

    Files that name their unit (3MF, GLB) are taken by it, others are in `unit`. Of a skinned GLB it is the rest pose.
    InputError where the file cannot be read or holds no mesh.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a mesh ({', '.join(MESH_SUFFIXES)}), found no such file; check the path")
    try:
        scene = trimesh.load_scene(path, process=False)
        meshes = {g.metadata.get("name", name): g for name, g in scene.geometry.items() if hasattr(g, "faces")}
        for mesh in meshes.values():  # a surface is whole at the seams of its texture, too
            mesh.merge_vertices(merge_tex=True, merge_norm=True)
    except Exception as error:  # readers of six formats fail in any way
        raise InputError(f"{path}: expected a mesh, found a file that no {path.suffix} reader understands") from error
    if not meshes:
        raise InputError(f"{path}: expected a mesh, found none in it; choose another file")
    found = {"millimeter": "mm", "centimeter": "cm", "meter": "m"}.get((scene.units or "").rstrip("s"), unit)
    return {name: mesh_facts(mesh.vertices, mesh.faces, up, found) for name, mesh in meshes.items()}


def describe(name: str, facts: dict[str, Any]) -> str:
    """One line of `mesh_facts`."""
    size = " x ".join(f"{length:.3f}" for length in facts["size_m"])
    volume = "no volume" if facts["volume_l"] is None else f"{facts['volume_l']:.1f} l"
    return (
        f"{name}  {facts['vertices']} vertices, {facts['faces']} faces, "
        f"{'watertight' if facts['watertight'] else 'NOT watertight'}, "
        f"faces {'consistent' if facts['consistent_faces'] else 'NOT consistent'}, "
        f"height {facts['height_m']:.3f} m ({size} m), {volume}"
    )
