"""A clip's folder of results: one manifest says what hmrkit made in it. Its claim (`hmrkit.take.claims`) must be held.

``manifest.json`` lists every product (``export-obj``, ``render``) with its files, their bytes and their sha256::

    {"format": "hmrkit-manifest", "version": 1, "left": {file: [{"bytes", "sha256"}]},
     "products": {name: {"record": {...} or null, "paths": [...], "files": {file: {"bytes", "sha256"}}}}}

Paths are relative to the folder. A product is made in a hidden folder beside its place, entered in the manifest, and
only then moved there. So whatever kills a run at whatever moment, the next one knows every file of the one before:
what it does not write itself it removes, and a file that is not in the manifest is never removed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hmrkit.errors import InputError
from hmrkit.files import make_folder, remove_leftovers, sha256_of, write_json

log = logging.getLogger(__name__)
MANIFEST, MAKING = "manifest.json", ".hmrkit.making"
FORMAT, VERSION = "hmrkit-manifest", 1
Files = dict[str, dict[str, Any]]


class ClipFolder:
    """What hmrkit made in a folder, as its manifest has it; a manifest that cannot be read counts as none.

    `again`: nothing is kept of what was made. What killed runs left half-made is removed."""

    def __init__(self, folder: Path, again: bool = False) -> None:
        self.folder, self._again = folder, again
        _remove_folder(folder / MAKING)
        remove_leftovers(folder)
        self._products: dict[str, dict[str, Any]] = {}
        self._left: dict[str, list[dict[str, Any]]] = {}  # files of earlier runs that are still to be removed
        self._replaced: set[str] = set()  # products that lost files of a name to others
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            if (manifest["format"], manifest["version"]) == (FORMAT, VERSION):
                self._products, self._left = dict(manifest["products"]), dict(manifest["left"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: cannot be read (%s); everything is written again", folder / MANIFEST, error)

    def product(
        self, name: str, record: dict[str, Any], make: Callable[[Path], Sequence[Path]], instead_of: Sequence[str] = ()
    ) -> list[Path]:
        """The paths of a product: made by `make` in the folder that it gets, or kept where all files are as they were
        made with the same `record`. It takes the place of the products `instead_of`, of the same name and, of all
        others, of files of the same name and of folders of the same name, whole, so that no two sequences mix."""
        old = self._products.get(name)
        if old and not self._again and old["record"] == record and self._is_whole(old["files"]):
            return [self.folder / path for path in old["paths"]]
        making = self.folder / MAKING
        make_folder(making)
        try:
            paths = [path.relative_to(making).as_posix() for path in make(making)]
            made = [path for path in making.rglob("*") if path.is_file()]
            files = {path.relative_to(making).as_posix(): _facts(path) for path in sorted(made)}
            folders = {path for path in paths if (making / path).is_dir()}
            for other in {name, *instead_of} & self._products.keys():
                self._leave(self._products.pop(other)["files"])
            for other in list(self._products):
                self._replace(other, files, folders)
            self._products[name] = {"record": record, "paths": paths, "files": files}
            self._save()
            for file in files:
                place = self.folder / file
                make_folder(place.parent)
                os.replace(making / file, place)
            for path in paths:  # a person who is never seen has a folder without files
                if (making / path).is_dir():
                    make_folder(self.folder / path)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot write there ({error.strerror or error}); free the path") from error
        finally:
            _remove_folder(making)
        return [self.folder / path for path in paths]

    @property
    def names(self) -> list[str]:
        """What products it has."""
        return list(self._products)

    @property
    def products(self) -> dict[str, dict[str, Any]]:
        """Its products by name, each as the manifest has it."""
        return dict(self._products)

    @property
    def files(self) -> set[str]:
        """What it has made, and what of earlier runs is still to be removed."""
        return set(self._left).union(*(product["files"] for product in self._products.values()))

    def finish(self, names: Sequence[str]) -> None:
        """Remove what earlier runs made and these products do not have; changed files stay, with a warning."""
        for name in self._products.keys() - set(names):
            self._leave(self._products.pop(name)["files"])
        wanted = {file for product in self._products.values() for file in product["files"]}
        if self._replaced:
            log.warning(
                "%s: replaced files of the same name of %s; a folder for each clip keeps both",
                self.folder, ", ".join(sorted(self._replaced)),
            )  # fmt: skip
            self._replaced = set()
        for file, versions in sorted(self._left.items()):
            if file in wanted or not (self.folder / file).is_file():
                continue
            if not any(self._is(file, facts) for facts in versions):
                log.warning("%s: of an earlier run, but changed since; left there", self.folder / file)
                continue
            with contextlib.suppress(OSError):
                (self.folder / file).unlink()
                for parent in (self.folder / file).parents:
                    if parent == self.folder:
                        break
                    parent.rmdir()  # fails where something is left in it
        self._left = {}
        self._save()

    def _replace(self, other: str, files: Files, folders: set[str]) -> None:
        """Take from another product what a new one, of these `files` and `folders`, replaces. The rest of it stays,
        with a record that no run has; equal files belong to both."""
        old = self._products[other]
        gone = {file for file, facts in old["files"].items() if file in files and files[file] != facts}
        gone |= {file for file in old["files"] for folder in folders if file.startswith(f"{folder}/")}
        paths = [path for path in old["paths"] if path not in gone | folders]
        if not gone and paths == old["paths"]:
            return
        self._leave({file: old["files"][file] for file in gone})
        self._replaced.add(other)
        if paths:
            kept = {file: facts for file, facts in old["files"].items() if file not in gone}
            self._products[other] = {"record": None, "paths": paths, "files": kept}
        else:
            del self._products[other]

    def _leave(self, files: Files) -> None:
        """Note files of an earlier run; of one name there can be several where runs were killed."""
        for file, facts in files.items():
            versions = self._left.setdefault(file, [])
            if facts not in versions:
                versions.append(facts)

    def _is_whole(self, files: Files) -> bool:
        return all(self._is(file, facts) for file, facts in files.items())

    def _is(self, file: str, facts: dict[str, Any]) -> bool:
        """Whether a file is there as it was made."""
        try:
            return _facts(self.folder / file) == facts
        except OSError:
            return False

    def _save(self) -> None:
        manifest = {"format": FORMAT, "version": VERSION, "products": self._products, "left": self._left}
        text = json.dumps(manifest, indent=1) + "\n"
        with contextlib.suppress(OSError, ValueError):
            if (self.folder / MANIFEST).read_text() == text:
                return
        write_json(self.folder / MANIFEST, manifest)


def _facts(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
