"""A page served on this machine by viser: the exact meshes of each frame, computed when they are shown.

One loop reads the page's controls and draws what they say, so that there is no state but theirs and no thread of ours.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hmrkit.body.posing import body_meshes
from hmrkit.errors import InputError, UsageError
from hmrkit.geometry import matrix_to_quaternion
from hmrkit.meshes import mesh_slice
from hmrkit.viewing.clip import Shown, ViewClip
from hmrkit.viewing.evidence import strip
from hmrkit.viewing.gate import Gate
from hmrkit.viewing.live_keys import add_keys
from hmrkit.viewing.paths import last_second, path_segments

if TYPE_CHECKING:
    from hmrkit.models import Models

GENERATOR_COLOUR = (214, 214, 222)
POLL_S = 1 / 60
PICTURE_WIDTH = 640
TIMELINE_WIDTH = 300
PATHS = ("off", "last second", "whole clip")


def require_viser() -> None:
    """UsageError where viser is not installed."""
    if importlib.util.find_spec("viser") is None:
        raise UsageError(
            "the page needs viser, which is not installed; pip install 'hmrkit[view]', or add --html FILE.html"
        )


class LivePage:
    """The page of a clip, which only its `url` opens (`Gate`). `run` keeps it alive; `step` does one round of it."""

    def __init__(self, clip: ViewClip, models: Models, host: str = "127.0.0.1", port: int = 8080) -> None:
        """UsageError where viser is missing, InputError where it cannot listen there."""
        require_viser()
        import viser

        self.clip, self.models = clip, models
        try:
            gate = Gate(host)
            banner = contextlib.redirect_stdout(io.StringIO())  # standard output holds addresses and paths
            with gate.before_viser(), banner:
                label = Path(clip.take.video.path).name
                self.server = viser.ViserServer(host=host, port=port, label=label, verbose=False)
        except OSError as error:
            raise InputError(f"cannot serve at {host}:{port} ({error.strerror or error}); choose a --port") from None
        if not gate.guards:
            self.stop()
            raise UsageError("this viser starts its server in a way that cannot be guarded; pip install 'hmrkit[view]'")
        # viser takes the next free port where this one is taken.
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.server.get_port()}/{gate.token}/"
        self._meshes: dict[tuple[int, str], Any] = {}
        self._lines: dict[str, Any] = {}
        self._drawn: tuple | None = None
        self._clock = time.monotonic()
        self._scene()
        self._controls()
        self.keys = add_keys(self)

    def run(self) -> None:
        """Serve until interrupted."""
        try:
            while True:
                self.step()
                time.sleep(POLL_S)
        finally:
            self.stop()

    def stop(self) -> None:
        """End the server."""
        self.server.stop()

    def step(self) -> bool:
        """Move time on if it plays and draw if anything changed; says whether it did."""
        now = time.monotonic()
        if self.playing.value:
            shown, speed = int(self.frame.value), self.speed.value
            frame, kept = self.clip.frame_after(shown, (now - self._clock) * speed)
            if frame != shown:
                self._clock = now - kept / speed
                self.frame.value = frame
        else:
            self._clock = now
        wanted = (int(self.frame.value), self.posed.value, self.goal.value, self.lifted.value, self.footage.value)
        wanted += (self.paths.value, *(box.value for box in self.people.values()))
        if wanted == self._drawn:
            return False
        self._draw(int(self.frame.value))
        self._drawn = wanted
        return True

    def _scene(self) -> None:
        clip, scene = self.clip, self.server.scene
        scene.set_up_direction("+y")
        camera, matrix = clip.take.camera, clip.world_from_camera
        wxyz = matrix_to_quaternion(torch.from_numpy(matrix[:3, :3])).numpy()
        self._frustum = scene.add_camera_frustum(
            "/camera", self.fov_y(0), camera.width / camera.height, scale=0.4, color=(255, 204, 102), wxyz=wxyz,
            position=matrix[:3, 3],
        )  # fmt: skip
        middle = self._middle()
        if clip.leveled:
            scene.add_grid("/ground", 30, 30, plane="xz", position=(round(middle[0]), 0, round(middle[2])))
        self.server.initial_camera.position = tuple(middle + np.array([2.2, 1.0, 4.0]))
        self.server.initial_camera.look_at = tuple(middle)
        self.server.initial_camera.up = (0.0, 1.0, 0.0)

    def _controls(self) -> None:
        clip, gui = self.clip, self.server.gui
        has_goal = any(person.goal is not None for person in clip.people)
        seen = np.flatnonzero(np.any([person.rows >= 0 for person in clip.people] or [[False]], axis=0))
        first = int(seen[0]) if len(seen) else 0
        self.frame = gui.add_slider("frame", 0, max(len(clip.frames) - 1, 1), 1, first)
        self._strip = strip(clip.people, TIMELINE_WIDTH)
        self.timeline = gui.add_image(self._strip, label="confidence (paler: lower), left and right foot stand")
        self.playing = gui.add_checkbox("play", False)
        self.speed = gui.add_slider("speed", 0.1, 2.0, 0.1, 1.0)
        self.posed = gui.add_checkbox("mesh stream (generator)", not has_goal)
        self.goal = gui.add_checkbox("calibrated", has_goal, visible=has_goal)
        has_lifted = any(person.lifted is not None for person in clip.people)
        self.lifted = gui.add_checkbox("lifted pose", False, visible=has_lifted)
        self.paths = gui.add_dropdown("joint paths", PATHS)
        # Off at first: finding one image in a film takes longer than all meshes of the frame.
        self.footage = gui.add_checkbox("footage", False, visible=Path(clip.take.video.path).exists())
        with gui.add_folder("people"):
            self.people = {p.track_id: gui.add_checkbox(f"person {p.track_id}", True) for p in clip.people}

    def _draw(self, frame: int) -> None:
        with self.server.atomic():
            for person in self.clip.people:
                row = int(person.rows[min(frame, len(person.rows) - 1)])
                there = row >= 0 and self.people[person.track_id].value
                calibrated = self.goal.value and person.goal is not None
                self._mesh(person, "calibrated", row, there and calibrated)
                self._mesh(person, "generator", row, there and self.posed.value, ghost=calibrated)
                self._path(person, frame, self.people[person.track_id].value)
                self._skeleton(person, row, there and self.lifted.value and person.lifted is not None)
            self._frustum.fov = self.fov_y(frame)
            marked = self._strip.copy()
            marked[:, int((frame + 0.5) * TIMELINE_WIDTH / max(len(self.clip.frames), 1))] = 255
            self.timeline.image = marked
            self._frustum.image = self._image(frame) if self.footage.value else None

    def _mesh(self, person: Shown, kind: str, row: int, visible: bool, ghost: bool = False) -> None:
        key = (person.track_id, kind)
        if not visible:
            if key in self._meshes:
                self._meshes[key].visible = False
            return
        rows = np.array([row])
        if kind == "calibrated":
            vertices_c = mesh_slice(self.clip.take, person.track_id, rows, self.models).vertices_c[0]
        else:
            vertices_c = body_meshes(self.models.body, self.clip.take.body[person.track_id], rows)[0][0]
        vertices = self._in_world(vertices_c)
        if key in self._meshes:
            self._meshes[key].vertices = vertices
            self._meshes[key].visible = True
        else:
            self._meshes[key] = self.server.scene.add_mesh_simple(
                f"/person_{person.track_id}/{kind}", vertices, np.asarray(self.models.body.faces), side="double",
                color=person.colour if kind == "calibrated" or person.goal is None else GENERATOR_COLOUR,
            )  # fmt: skip
        self._meshes[key].opacity = 0.5 if ghost else None

    def _skeleton(self, person: Shown, row: int, visible: bool) -> None:
        points = None
        if visible and person.lifted is not None:
            # The lifted pose has no place of its own: its root stands where the person's pelvis is.
            places = person.goal.places if person.goal is not None and self.goal.value else person.posed.places
            joints = self._in_world(person.lifted.places[row] + places[row, 0])
            points = joints[np.array(person.lifted.bones)]
        self._segments(f"/person_{person.track_id}/lifted", points, person.colour, 4)

    def _path(self, person: Shown, frame: int, visible: bool) -> None:
        points, kind = None, self.paths.value
        if visible and kind != "off":
            ends = (last_second(self.clip, frame), frame) if kind == "last second" else (0, len(self.clip.frames) - 1)
            points = path_segments(self.clip, person, self.goal.value, *ends)
        self._segments(f"/person_{person.track_id}/paths", points, person.colour, 2)

    def _segments(self, name: str, points: np.ndarray | None, colour: tuple[int, int, int], width: int) -> None:
        """Draw lines (S,2,3) m under a name of their own, or none."""
        if points is None or not len(points):
            if name in self._lines:
                self._lines[name].visible = False
        elif name in self._lines:
            if not np.array_equal(self._lines[name].points, points):  # else nothing is sent
                self._lines[name].points = points
            self._lines[name].visible = True
        else:
            self._lines[name] = self.server.scene.add_line_segments(
                name, points, colors=colour, thickness=width, thickness_units="screen"
            )

    def _image(self, frame: int) -> np.ndarray | None:
        from hmrkit.video import read_frames

        video = self.clip.take.video
        one = replace(video, frame_indices=video.frame_indices[[frame]], frame_times=video.frame_times[[frame]])
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

    def _middle(self) -> np.ndarray:
        """Where people mostly are, in the world; 4 m before the camera where there is nobody."""
        places = [person.posed.places[person.rows[person.rows >= 0], 0] for person in self.clip.people]
        joined = np.concatenate(places) if places else np.zeros((0, 3))
        return self._in_world(np.median(joined, 0) if len(joined) else np.array([0.0, 0.0, 4.0]))
