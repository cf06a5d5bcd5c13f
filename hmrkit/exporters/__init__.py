"""Exporters turn the final meshes of a take into files that other programs read.

How to add one: write a module with a class as in the Protocol `Exporter` below, and add its line to `EXPORTERS`. Meshes
come in stretches of one person after the other, in the camera frame (x right, y down, z forward, metres): flip axes in
the exporter, say in the file's header which way they point, never hold more than the stretch at hand, and write every
file through `hmrkit.take.atomic_path`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from hmrkit.errors import UsageError
from hmrkit.members import Member
from hmrkit.types import MeshTrack, Take

EXPORTERS: dict[str, Member] = {
    "npz": Member(
        module="hmrkit.exporters.npz",
        class_name="NpzExporter",
        summary="one .npz a person: pose, shape and translation in AMASS's layout, joints, keypoints, camera",
        paper="Mahmood et al. 2019, AMASS: Archive of Motion Capture as Surface Shapes",
    ),
    "obj": Member(
        module="hmrkit.exporters.obj",
        class_name="ObjExporter",
        summary="one folder of .obj files a person, one a frame: exact vertices, one topology, y up",
    ),
}


class Exporter(Protocol):
    """Writes the people of one take under a folder. InputError where that cannot be done."""

    def add(self, mesh: MeshTrack) -> None:
        """The next stretch of one person's frames; a person's stretches come in order, one person after another."""
        ...

    def close(self) -> list[Path]:
        """Finish, and return the files and folders made (a folder stands for the frames in it)."""
        ...


def check_formats(formats: str | Sequence[str]) -> list[str]:
    """``"npz,obj"`` or a sequence of names -> names, each once. UsageError lists what there is."""
    parts = formats.split(",") if isinstance(formats, str) else formats
    names = list(dict.fromkeys(part.strip().lower() for part in parts if part.strip()))
    unknown = [name for name in names if name not in EXPORTERS]
    if unknown:
        raise UsageError(f"unknown export format {', '.join(unknown)}; choose from {', '.join(EXPORTERS)}")
    return names


def load_exporter(name: str) -> Callable[[Path, Take], Exporter]:
    """The exporter class of that name; call it with the output folder and the take. UsageError if there is none."""
    check_formats([name])
    spec = EXPORTERS[name]
    return getattr(spec.load_module(), spec.class_name)


def person_name(track_id: int) -> str:
    """How every exporter names a person's files: ``person_01``."""
    return f"person_{track_id:02d}"
