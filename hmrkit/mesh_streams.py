"""Mesh streams: what gives every person of a take a body in each frame, before calibration.

How to add one: write a module with a function ``load(name, models)`` that returns a `MeshStream`, and add its line to
`MESH_STREAMS`. `name` is what the user wrote, with ``:argument`` where the line has one. A stream that reads a file or
weights of its own has a ``weights_sha256``, and its line names ``mesh_stream`` among its `models`: then another file is
another result. Such a stream may have a method ``check(take)``, which is called before the first stage runs: InputError
where the clip is not what the file was made of. A regressor needs no line of its own: each one in `hmrkit.regressors`
is a mesh stream. ``tests/new_members`` has an example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hmrkit.members import Member, choose
from hmrkit.regressors import REGRESSORS

if TYPE_CHECKING:
    from hmrkit.models import Models
    from hmrkit.types import BodyParams, Take, Track


@dataclass(frozen=True, kw_only=True)
class StreamMember(Member):
    """A line of the table. `models` names what of `hmrkit.models.Models` the stream uses; `needs_depth`: it wants 3D
    keypoints, so that it reads the lifted pose where the keypoints have none; `refine_by_default`: SMPLify refines its
    bodies unless the user says otherwise; `masks_shape`: so do masks their shapes; `smooth_by_default` is the strength
    of the smoothing over time."""

    models: tuple[str, ...] = ("body",)
    needs_depth: bool = False
    refine_by_default: bool = False
    masks_shape: bool = False
    smooth_by_default: float = 1.0


class MeshStream(Protocol):
    """Bodies of people of a take."""

    def __call__(
        self, take: Take, tracks: Sequence[Track], progress: Callable[[int, int], None]
    ) -> dict[int, BodyParams]:
        """Body parameters by track id, in the camera frame; a track without any answer is left out, with a warning.

        `progress` gets what is done and how much there is. InputError where the clip cannot be read any more.
        """
        ...


MESH_STREAMS: dict[str, StreamMember] = {
    "fit": StreamMember(
        module="hmrkit.fitting.stream",
        summary="body fitted to 2D and 3D keypoints: analytic inverse kinematics, refined over the whole track",
        needs_depth=True,
        refine_by_default=True,
        masks_shape=True,
    ),
    "file": StreamMember(
        module="hmrkit.results.stream",
        summary="bodies of a take or of another tool's results (hmrkit list results), matched to the people tracked",
        argument="take or results",
        models=("body", "mesh_stream"),
        smooth_by_default=0.0,
    ),
    **{
        name: StreamMember(
            module="hmrkit.regressors.stream",
            summary=member.summary,
            paper=member.paper,
            licence=member.licence,
            for_tests=member.for_tests,
            published=member.published,
            masks_shape=not member.published and not member.for_tests,
            models=("body", "regressor"),
        )
        for name, member in REGRESSORS.items()
    },
}


def load_mesh_stream(name: str, models: Models) -> MeshStream:
    """The mesh stream that `name` (``name`` or ``name:argument``) names, with the models that it uses."""
    member, _ = choose(MESH_STREAMS, name, "mesh stream")
    return member.load_module().load(name, models)
