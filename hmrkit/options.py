"""What a user can choose about a run: the methods and mesh streams as data, and the options."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hmrkit.errors import UsageError
from hmrkit.members import visible
from hmrkit.mesh_streams import MESH_STREAMS


@dataclass(frozen=True)
class Method:
    """A mesh stream (`mesh` is the method's own) and whether its meshes are calibrated by a lifted pose (PC-HMR)."""

    mesh: str
    summary: str
    calibrated: bool = False
    for_tests: bool = False


METHODS: dict[str, Method] = {
    **{name: Method(name, stream.summary, for_tests=stream.for_tests) for name, stream in MESH_STREAMS.items()},
    "pc-hmr": Method("fit", "a mesh stream (--mesh) calibrated by a temporally lifted pose (PC-HMR, parallel)", True),
}


@dataclass(frozen=True)
class Options:
    """Everything that a user can choose about a run. Names follow the command line's.

    `mesh` None is the method's own stream, ``fit`` for ``pc-hmr``; `refine` None is the mesh stream's
    default. Both are what was chosen once the options are made. `smooth` is the strength of `smooth_body`,
    0 for none.
    """

    method: str = "pc-hmr"
    mesh: str | None = None
    checkpoint: str | None = None
    detector: str = "yolox-nano"
    tracker: str = "bytetrack"
    people: str = "all"
    keypoints: str = "blazepose-heavy"
    lifter: str = "videopose3d"
    lifter_checkpoint: str | None = None
    flip: bool = True
    smooth: float = 1.0
    refine: bool | None = None
    body: str | None = None
    gender: str = "neutral"
    focal: float | None = None
    fov: float | None = None
    start: str | None = None
    end: str | None = None
    every: int = 1
    fps: float | None = None
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"--method must be one of {', '.join(visible(METHODS))}, got {self.method!r}")
        method = METHODS[self.method]
        mesh = self.mesh or method.mesh
        if mesh not in MESH_STREAMS:
            raise UsageError(f"--mesh must be one of {', '.join(visible(MESH_STREAMS))}, got {mesh!r}")
        if not method.calibrated and mesh != method.mesh:
            raise UsageError(
                f"--method {self.method} is its own mesh stream; for --mesh {mesh} use --method {mesh} or pc-hmr"
            )
        if self.checkpoint and "regressor" not in MESH_STREAMS[mesh].models:
            trained = (name for name, stream in visible(MESH_STREAMS).items() if "regressor" in stream.models)
            raise UsageError(f"--checkpoint is a regressor's ({', '.join(trained)}), but the mesh stream is {mesh}")
        if self.every < 1 or self.batch_size < 1:
            raise UsageError("--every and --batch-size must be 1 or more")
        if not 0 <= self.smooth < math.inf:
            raise UsageError(f"--smooth must be 0 or more, got {self.smooth:g}")
        if self.people not in ("all", "largest") and not (self.people.isdigit() and int(self.people) > 0):
            raise UsageError(f"--people must be all, largest or a number from 1, got {self.people!r}")
        object.__setattr__(self, "mesh", mesh)
        refine = MESH_STREAMS[mesh].refine_by_default if self.refine is None else self.refine
        object.__setattr__(self, "refine", refine)
