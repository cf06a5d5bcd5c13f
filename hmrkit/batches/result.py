"""What a run of many clips is to make, and what became of a clip."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hmrkit.batches.naming import Clip
from hmrkit.errors import EXIT_OK, EXIT_SOME_FAILED, HmrkitError

log = logging.getLogger(__name__)
BAD = ("failed", "quarantined")


@dataclass(frozen=True)
class Outputs:
    """Where results go and which ones: `render` is a file name inside each clip's folder, or None."""

    folder: Path
    formats: Sequence[str] = ("npz", "obj")
    render: str | None = None
    overwrite: bool = False


@dataclass
class ClipResult:
    """What became of a clip. `status` is planned, done, kept (done before, and nothing changed since), failed or
    quarantined; `kind` names what failed."""

    source: str
    folder: Path
    status: str = "failed"
    error: str | None = None
    kind: str = ""
    exit_code: int = EXIT_OK
    files: list[Path] = field(default_factory=list)
    seconds: float = 0.0
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """See `failed`."""
        return failed(self.status, self.exit_code)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a clip's report and `--json`; a sequence of meshes is one name with ``%06d``."""
        status = "done" if self.status == "kept" else self.status
        out = {"source": self.source, "status": status, "seconds": round(self.seconds, 2), **self.detail}
        if self.error:
            out["error"] = self.error
        return out | {"folder": str(self.folder), "files": [_pattern(f) for f in self.files]}

    def fail(self, error: BaseException) -> None:
        """Note what went wrong: as it says itself where somebody thought of it."""
        self.status = "quarantined" if isinstance(error, QuarantineError) else "failed"
        self.kind = type(error).__name__
        if isinstance(error, HmrkitError):
            self.error, self.exit_code = str(error), error.exit_code
            return
        log.debug("unexpected error in %s", self.source, exc_info=error)
        self.exit_code = EXIT_SOME_FAILED
        if isinstance(error, OSError):
            where = f" {error.filename}" if error.filename else ""
            self.error = f"{self.source}: cannot read or write{where} ({error.strerror or error}); check the disk"
        else:
            self.error = f"{self.source}: unexpected {self.kind}: {error} (-v shows where)"


def failed(status: str, exit_code: int) -> bool:
    """Whether a clip counts as failed: it has no result, or one of little use (most frames undecodable)."""
    return status in BAD or exit_code != EXIT_OK


class QuarantineError(HmrkitError):
    """A clip that failed too often to be tried again."""


def result_of(clip: Clip, outputs: Outputs) -> ClipResult:
    """A result that is still to come."""
    return ClipResult(clip.source, outputs.folder / clip.name, "planned")


def _pattern(path: Path) -> str:
    """A path; of a folder that holds a sequence, its files' common name (``person_01_obj/frame_%06d.obj``)."""
    if path.is_dir():
        for file in os.scandir(path):
            if file.name.startswith("frame_"):
                return str(path / f"frame_%06d{Path(file.name).suffix}")
    return str(path)
