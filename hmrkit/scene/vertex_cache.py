"""Exact vertices computed once for several exporters, kept on disk and not in memory."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from hmrkit.errors import InputError
from hmrkit.scene import Character, Rows, Scene


@contextlib.contextmanager
def shared_vertices(scene: Scene, folder: Path, share: bool = True) -> Iterator[Scene]:
    """The scene, whose characters' exact vertices are computed once, however many exporters ask for them.

    They are kept in nameless files in `folder`, 83 KB a frame. `share` False: the scene as it is.
    """
    if not share:
        yield scene
        return
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(contextlib.closing(VertexStore(c, folder))) for c in scene.characters]
        pairs = zip(scene.characters, stores, strict=True)
        yield replace(scene, characters=tuple(replace(c, exact_vertices=store) for c, store in pairs))


class VertexStore:
    """Stands in for a character's `exact_vertices`: rows asked for a second time are read back from a file.

    The file is made in `folder` when it is first needed, has no name there, and vanishes with `close` or the process.
    """

    def __init__(self, character: Character, folder: Path) -> None:
        self._character, self._folder = character, folder
        self._there = np.zeros(len(character), bool)
        self._file = None

    def __call__(self, rows: Rows) -> np.ndarray:
        """Vertices (n,V,3) of some rows. InputError where the disk is full."""
        index = np.arange(len(self._character))[rows]
        there = self._there[index]
        if not there.all():
            # Computed as they were asked for: a stretch as a stretch.
            vertices = self._character.vertices(rows)
            self._store(index, vertices)
            return vertices
        shape = self._character.rest_vertices.shape
        size = 4 * int(np.prod(shape))
        out = np.empty((len(index), *shape), np.float32)
        assert self._file is not None
        for place, row in enumerate(index.tolist()):
            self._file.seek(row * size)
            out[place] = np.frombuffer(self._file.read(size), np.float32).reshape(shape)
        return out

    def _store(self, index: np.ndarray, vertices: np.ndarray) -> None:
        try:
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  (closed by `close`)
            for row, mesh in zip(index.tolist(), vertices.astype(np.float32), strict=True):
                self._file.seek(row * mesh.nbytes)
                self._file.write(mesh.tobytes())
        except OSError as error:
            raise InputError(
                f"{self._folder}: cannot keep vertices there ({error.strerror or error}); free some space"
            ) from error
        self._there[index] = True

    def close(self) -> None:
        """Give the disk space back."""
        if self._file is not None:
            self._file.close()
