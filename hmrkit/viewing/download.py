"""People of a served page as one file of an export format, for the browser to save."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hmrkit.errors import InputError, UsageError
from hmrkit.exporters.writing import export_take
from hmrkit.scene import ExportOptions

if TYPE_CHECKING:
    from hmrkit.models import Models
    from hmrkit.types import Take

MOST_MB = 500  # a browser gets the file from memory, in one piece


def exported(take: Take, models: Models, people: Sequence[int], name: str) -> tuple[str, bytes]:
    """What `hmrkit export --format` makes of these people, by track id: the file's name and its bytes.

    Several files come in one ``.zip``. UsageError for nobody, InputError for more than `MOST_MB`, and whatever the
    exporter itself raises.
    """
    if not people:
        raise UsageError("nobody is chosen; switch on at least one person in the list")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "files"
        folder.mkdir()
        export_take(take, folder, (name,), models, lambda *_: None, ExportOptions(people=tuple(people)))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        found = files[0]
        if len(files) > 1:
            found = Path(place) / f"{Path(take.video.path).stem}_{name}.zip"
            with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as packed:
                for path in files:
                    packed.write(path, path.relative_to(folder))
        if (size := found.stat().st_size) > MOST_MB * 1e6:
            raise InputError(
                f"{name} of this clip is {size / 1e6:.0f} MB, wanted at most {MOST_MB} MB for a page; "
                f"run `hmrkit export TAKE --format {name} -o FOLDER`"
            )
        return found.name, found.read_bytes()
