"""What stands in the served page: meshes, joint paths and lifted poses of each take, the camera, the ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hmrkit.body.posing import body_meshes
from hmrkit.geometry import matrix_to_quaternion
from hmrkit.meshes import mesh_slice
from hmrkit.viewing.clip import Shown, ViewClip
from hmrkit.viewing.paths import last_second, path_segments

if TYPE_CHECKING:
    from hmrkit.models import Models

GENERATOR_COLOUR = (214, 214, 222)
PICTURE_WIDTH = 640
CLEAR_M = 1.5  # between the first take's people and the second's, beside them
PATHS = ("off", "last second", "whole clip")


@dataclass(frozen=True)
class Side:
    """A take of the page, what it was made with, and where its things hang in the scene."""

    clip: ViewClip
    models: Models
    root: str

    def name(self, person: Shown, kind: str) -> str:
        return f"{self.root}/person_{person.track_id}/{kind}"


@dataclass(frozen=True)
class Wanted:
    """What the controls of the page say. `people`: side and track id of who is on; `paths`: one of `PATHS`."""

    frame: int
    posed: bool
    goal: bool
    lifted: bool
    footage: bool
    beside: bool
    paths: str
    people: frozenset[tuple[int, int]]


class LiveScene:
    """The scene of a viser server, for one take or two; `draw` puts into it what is wanted."""

    def __init__(self, server: Any, sides: Sequence[Side]) -> None:
        self.server, self.sides, self.clip = server, sides, sides[0].clip
        self.meshes: dict[str, Any] = {}
        self.lines: dict[str, Any] = {}
        clip = self.clip
        server.scene.set_up_direction("+y")
        camera, matrix = clip.take.camera, clip.world_from_camera
        wxyz = matrix_to_quaternion(torch.from_numpy(matrix[:3, :3])).numpy()
        self.frustum = server.scene.add_camera_frustum(
            "/camera", self.fov_y(0), camera.width / camera.height, scale=0.4, color=(255, 204, 102), wxyz=wxyz,
            position=matrix[:3, 3],
        )  # fmt: skip
        if len(sides) > 1:
            self.second = server.scene.add_frame("/against", show_axes=False)
        middle = self._middle()
        if clip.leveled:
            server.scene.add_grid("/ground", 30, 30, plane="xz", position=(round(middle[0]), 0, round(middle[2])))
        server.initial_camera.position = tuple(middle + np.array([2.2, 1.0, 4.0]))
        server.initial_camera.look_at = tuple(middle)
        server.initial_camera.up = (0.0, 1.0, 0.0)

    def draw(self, wanted: Wanted) -> None:
        """Show that, and nothing else."""
        frame = wanted.frame
        with self.server.atomic():
            if len(self.sides) > 1:
                self.second.position = (self._apart_m() if wanted.beside else 0.0, 0.0, 0.0)
            for k, side in enumerate(self.sides):
                for person in side.clip.people:
                    row = int(person.rows[min(frame, len(person.rows) - 1)])
                    chosen = (k, person.track_id) in wanted.people
                    there = row >= 0 and chosen
                    ghost = wanted.goal and person.goal is not None  # who is not calibrated has one mesh
                    self._mesh(side, person, "final", row, there and wanted.goal)
                    self._mesh(
                        side, person, "generator", row, there and wanted.posed and (ghost or not wanted.goal), ghost
                    )
                    self._path(side, person, wanted, chosen)
                    self._skeleton(side, person, row, wanted, there and wanted.lifted)
            self.frustum.fov = self.fov_y(frame)
            self.frustum.image = self._image(frame) if wanted.footage else None

    def _mesh(self, side: Side, person: Shown, kind: str, row: int, visible: bool, ghost: bool = False) -> None:
        key = side.name(person, kind)
        if not visible:
            if key in self.meshes:
                self.meshes[key].visible = False
            return
        rows, take, models = np.array([row]), side.clip.take, side.models
        if kind == "final":
            vertices_c = mesh_slice(take, person.track_id, rows, models).vertices_c[0]
        else:
            vertices_c = body_meshes(models.body, take.body[person.track_id], rows)[0][0]
        vertices = self._in_world(vertices_c)
        if key in self.meshes:
            self.meshes[key].vertices = vertices
            self.meshes[key].visible = True
        else:
            self.meshes[key] = self.server.scene.add_mesh_simple(
                key, vertices, np.asarray(models.body.faces), side="double",
                color=person.colour if kind == "final" or person.goal is None else GENERATOR_COLOUR,
            )  # fmt: skip
        self.meshes[key].opacity = 0.5 if ghost else None

    def _skeleton(self, side: Side, person: Shown, row: int, wanted: Wanted, visible: bool) -> None:
        points = None
        if visible and person.lifted is not None:
            # The lifted pose has no place of its own: its root stands where the person's pelvis is.
            places = person.goal.places if person.goal is not None and wanted.goal else person.posed.places
            joints = self._in_world(person.lifted.places[row] + places[row, 0])
            points = joints[np.array(person.lifted.bones)]
        self._segments(side.name(person, "lifted"), points, person.colour, 4)

    def _path(self, side: Side, person: Shown, wanted: Wanted, visible: bool) -> None:
        points = None
        if visible and wanted.paths != "off":
            whole = wanted.paths == "whole clip"
            ends = (0, len(self.clip.frames) - 1) if whole else (last_second(self.clip, wanted.frame), wanted.frame)
            points = path_segments(side.clip, person, wanted.goal, *ends)
        self._segments(side.name(person, "paths"), points, person.colour, 2)

    def _segments(self, name: str, points: np.ndarray | None, colour: tuple[int, int, int], width: int) -> None:
        """Draw lines (S,2,3) m under a name of their own, or none."""
        if points is None or not len(points):
            if name in self.lines:
                self.lines[name].visible = False
        elif name in self.lines and self.lines[name].points.shape == points.shape:
            if not np.array_equal(self.lines[name].points, points):  # else nothing is sent
                self.lines[name].points = points
            self.lines[name].visible = True
        else:
            self.lines[name] = self.server.scene.add_line_segments(
                name, points, colors=colour, thickness=width, thickness_units="screen"
            )

    def _image(self, frame: int) -> np.ndarray | None:
        from hmrkit.video import read_frames

        video = self.clip.take.video
        one = video.at(np.array([frame]))
        for batch in read_frames(one, batch_size=1):
            if len(batch.frames):
                return batch.frames[0][:: max(video.width // PICTURE_WIDTH, 1), :: max(video.width // PICTURE_WIDTH, 1)]
        return None

    def fov_y(self, frame: int) -> float:
        """The filming camera's vertical angle of view, radians, in the frame of that place in the timeline."""
        camera, zoom = self.clip.take.camera, self.clip.take.camera.zoom_at(self.clip.frames[frame : frame + 1])
        focal = float(camera.focal_px[1]) * (1.0 if zoom is None or not len(zoom) else float(zoom[0]))
        return 2 * float(np.arctan(camera.height / 2 / focal))

    def _in_world(self, points_c: np.ndarray) -> np.ndarray:
        matrix = self.clip.world_from_camera
        return (points_c @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)

    def _apart_m(self) -> float:
        """How far to the side the second take stands clear of the first, m."""
        places = [person.posed.places[person.rows[person.rows >= 0], 0] for person in self.clip.people]
        across = self._in_world(np.concatenate(places))[:, 0] if places else np.zeros(1)
        return (float(np.ptp(across)) if len(across) else 0.0) + CLEAR_M

    def _middle(self) -> np.ndarray:
        """Where people mostly are, in the world; 4 m before the camera where there is nobody."""
        places = [person.posed.places[person.rows[person.rows >= 0], 0] for person in self.clip.people]
        joined = np.concatenate(places) if places else np.zeros((0, 3))
        return self._in_world(np.median(joined, 0) if len(joined) else np.array([0.0, 0.0, 4.0]))
