"""A page served on this machine by viser: the exact meshes of each frame, computed when they are shown.

One loop reads the page's controls and draws what they say, so that there is no state but theirs and no thread of ours.
"""

from __future__ import annotations

import contextlib
import html
import importlib.util
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hmrkit.body.posing import body_meshes
from hmrkit.errors import HmrkitError, InputError, UsageError
from hmrkit.exporters import EXPORTERS
from hmrkit.geometry import matrix_to_quaternion
from hmrkit.meshes import mesh_slice
from hmrkit.viewing.against import COLOURS, Against, Pair
from hmrkit.viewing.clip import Shown, ViewClip
from hmrkit.viewing.download import exported
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
CLEAR_M = 1.5  # between the first take's people and the second's, beside them
PATHS = ("off", "last second", "whole clip")


def require_viser() -> None:
    """UsageError where viser is not installed."""
    if importlib.util.find_spec("viser") is None:
        raise UsageError(
            "the page needs viser, which is not installed; pip install 'hmrkit[view]', or add --html FILE.html"
        )


@dataclass(frozen=True)
class _Side:
    """A take of the page, what it was made with, and where its things hang in the scene."""

    clip: ViewClip
    models: Models
    root: str

    def name(self, person: Shown, kind: str) -> str:
        return f"{self.root}/person_{person.track_id}/{kind}"


class LivePage:
    """The page of a clip, which only its `url` opens (`Gate`). `run` keeps it alive; `step` does one round of it."""

    def __init__(
        self,
        clip: ViewClip,
        models: Models,
        host: str = "127.0.0.1",
        port: int = 8080,
        against: Against | None = None,
    ) -> None:
        """UsageError where viser is missing, InputError where it cannot listen there."""
        require_viser()
        import viser

        self.clip, self.models, self.against = clip, models, against
        self.sides = [_Side(clip, models, "")] + ([_Side(against.clip, against.models, "/against")] if against else [])
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
        self._pairs = against.pairs if against else tuple(Pair(person.track_id, None) for person in clip.people)
        self._meshes: dict[str, Any] = {}
        self._lines: dict[str, Any] = {}
        self._drawn: tuple | None = None
        self._clock = time.monotonic()
        self._asked: list[Any] = []  # browsers that wait for a file
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
        """Save what was asked for, move time on if it plays and draw if anything changed; says whether it did."""
        while self._asked:
            self._save(self._asked.pop(0))
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
        wanted += (self.paths.value, self.beside.value, *(box.value for box in self.boxes))
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
        if self.against:
            self._second = scene.add_frame("/against", show_axes=False)
        middle = self._middle()
        if clip.leveled:
            scene.add_grid("/ground", 30, 30, plane="xz", position=(round(middle[0]), 0, round(middle[2])))
        self.server.initial_camera.position = tuple(middle + np.array([2.2, 1.0, 4.0]))
        self.server.initial_camera.look_at = tuple(middle)
        self.server.initial_camera.up = (0.0, 1.0, 0.0)

    def _controls(self) -> None:
        clip, gui = self.clip, self.server.gui
        people = self._people_in_order()
        has_goal = any(person.goal is not None for person in people)
        seen = np.flatnonzero(np.any([person.rows >= 0 for person in people] or [[False]], axis=0))
        first = int(seen[0]) if len(seen) else 0
        self.frame = gui.add_slider("frame", 0, max(len(clip.frames) - 1, 1), 1, first)
        self._strip = strip(people, TIMELINE_WIDTH)
        self.timeline = gui.add_image(self._strip, label="confidence (paler: lower), left and right foot stand")
        self.playing = gui.add_checkbox("play", False)
        self.speed = gui.add_slider("speed", 0.1, 2.0, 0.1, 1.0)
        self.posed = gui.add_checkbox("mesh stream (generator)", not has_goal)
        self.goal = gui.add_checkbox("final (calibrated)", has_goal, visible=has_goal)
        has_lifted = any(person.lifted is not None for person in people)
        self.lifted = gui.add_checkbox("lifted pose", False, visible=has_lifted)
        self.paths = gui.add_dropdown("joint paths", PATHS)
        # Off at first: finding one image in a film takes longer than all meshes of the frame.
        self.footage = gui.add_checkbox("footage", False, visible=Path(clip.take.video.path).exists())
        self.beside = gui.add_checkbox("second take beside the first", False, visible=self.against is not None)
        if self.against:
            for name, colour in zip(self.against.names, COLOURS, strict=True):
                text = html.escape(name)
                gui.add_html(f'<p style="margin: 2px 14px"><b style="color: rgb{colour}">&#9679;</b> {text}</p>')
        with gui.add_folder("people"):
            self._list_people()
        with gui.add_folder("export", expand_by_default=False):
            self.format = gui.add_dropdown("format", tuple(EXPORTERS))
            names = self.against.names if self.against else ("",)
            self.export_from = gui.add_dropdown("take", names, visible=self.against is not None)
            self.export = gui.add_button("save the people that are on")
        self.export.on_click(lambda event: self._asked.append(event.client))

    def _list_people(self) -> None:
        """`boxes`, one a person; `people` has them by side and track id. Who is in both takes has one."""
        gui, self.boxes, self.people = self.server.gui, [], {}
        for pair in self._pairs:
            box = gui.add_checkbox(pair.title() if self.against else f"person {pair.first}", True)
            self.boxes.append(box)
            self.people |= {(k, i): box for k, i in enumerate((pair.first, pair.second)) if i is not None}

    def _people_in_order(self) -> list[Shown]:
        """Everybody, in the order of the list: who is one in two takes follow each other."""
        found = [{person.track_id: person for person in side.clip.people} for side in self.sides]
        ids = [
            (of_side, i) for pair in self._pairs for of_side, i in zip(found, (pair.first, pair.second), strict=False)
        ]
        return [of_side[i] for of_side, i in ids if i is not None]

    def _draw(self, frame: int) -> None:
        with self.server.atomic():
            if self.against:
                self._second.position = (self._apart_m() if self.beside.value else 0.0, 0.0, 0.0)
            for k, side in enumerate(self.sides):
                for person in side.clip.people:
                    row, chosen = int(person.rows[min(frame, len(person.rows) - 1)]), self.people[k, person.track_id]
                    there = row >= 0 and chosen.value
                    ghost = self.goal.value and person.goal is not None  # who is not calibrated has one mesh
                    self._mesh(side, person, "final", row, there and self.goal.value)
                    posed = there and self.posed.value and (ghost or not self.goal.value)
                    self._mesh(side, person, "generator", row, posed, ghost)
                    self._path(side, person, frame, chosen.value)
                    self._skeleton(side, person, row, there and self.lifted.value)
            self._frustum.fov = self.fov_y(frame)
            marked = self._strip.copy()
            marked[:, int((frame + 0.5) * TIMELINE_WIDTH / max(len(self.clip.frames), 1))] = 255
            self.timeline.image = marked
            self._frustum.image = self._image(frame) if self.footage.value else None

    def _mesh(self, side: _Side, person: Shown, kind: str, row: int, visible: bool, ghost: bool = False) -> None:
        key = side.name(person, kind)
        if not visible:
            if key in self._meshes:
                self._meshes[key].visible = False
            return
        rows, take, models = np.array([row]), side.clip.take, side.models
        if kind == "final":
            vertices_c = mesh_slice(take, person.track_id, rows, models).vertices_c[0]
        else:
            vertices_c = body_meshes(models.body, take.body[person.track_id], rows)[0][0]
        vertices = self._in_world(vertices_c)
        if key in self._meshes:
            self._meshes[key].vertices = vertices
            self._meshes[key].visible = True
        else:
            self._meshes[key] = self.server.scene.add_mesh_simple(
                key, vertices, np.asarray(models.body.faces), side="double",
                color=person.colour if kind == "final" or person.goal is None else GENERATOR_COLOUR,
            )  # fmt: skip
        self._meshes[key].opacity = 0.5 if ghost else None

    def _skeleton(self, side: _Side, person: Shown, row: int, visible: bool) -> None:
        points = None
        if visible and person.lifted is not None:
            # The lifted pose has no place of its own: its root stands where the person's pelvis is.
            places = person.goal.places if person.goal is not None and self.goal.value else person.posed.places
            joints = self._in_world(person.lifted.places[row] + places[row, 0])
            points = joints[np.array(person.lifted.bones)]
        self._segments(side.name(person, "lifted"), points, person.colour, 4)

    def _path(self, side: _Side, person: Shown, frame: int, visible: bool) -> None:
        points, kind = None, self.paths.value
        if visible and kind != "off":
            ends = (last_second(self.clip, frame), frame) if kind == "last second" else (0, len(self.clip.frames) - 1)
            points = path_segments(side.clip, person, self.goal.value, *ends)
        self._segments(side.name(person, "paths"), points, person.colour, 2)

    def _segments(self, name: str, points: np.ndarray | None, colour: tuple[int, int, int], width: int) -> None:
        """Draw lines (S,2,3) m under a name of their own, or none."""
        if points is None or not len(points):
            if name in self._lines:
                self._lines[name].visible = False
        elif name in self._lines and self._lines[name].points.shape == points.shape:
            if not np.array_equal(self._lines[name].points, points):  # else nothing is sent
                self._lines[name].points = points
            self._lines[name].visible = True
        else:
            self._lines[name] = self.server.scene.add_line_segments(
                name, points, colors=colour, thickness=width, thickness_units="screen"
            )

    def _save(self, client: Any) -> None:
        """Export the people that are on and hand the file to a browser; the page waits meanwhile."""
        k = self.export_from.options.index(self.export_from.value)
        side = self.sides[k]
        people = [i for (of, i), box in self.people.items() if of == k and box.value]
        self.export.disabled = True
        try:
            client.send_file_download(*exported(side.clip.take, side.models, people, self.format.value))
        except HmrkitError as error:
            client.add_notification("Not exported", str(error))
        finally:
            self.export.disabled = False

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
        return float(np.ptp(across)) + CLEAR_M

    def _middle(self) -> np.ndarray:
        """Where people mostly are, in the world; 4 m before the camera where there is nobody."""
        places = [person.posed.places[person.rows[person.rows >= 0], 0] for person in self.clip.people]
        joined = np.concatenate(places) if places else np.zeros((0, 3))
        return self._in_world(np.median(joined, 0) if len(joined) else np.array([0.0, 0.0, 4.0]))
