"""A page served on this machine by viser: the exact meshes of each frame, computed when they are shown.

One loop reads the page's controls and draws what they say, so that there is no state but theirs and no thread of ours.
"""

from __future__ import annotations

import contextlib
import html
import importlib.util
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmrkit.errors import HmrkitError, InputError, UsageError
from hmrkit.exporters import EXPORTERS
from hmrkit.viewing.against import COLOURS, Against, Pair
from hmrkit.viewing.clip import Shown, ViewClip
from hmrkit.viewing.download import exported
from hmrkit.viewing.evidence import strip
from hmrkit.viewing.gate import Gate
from hmrkit.viewing.live_keys import add_keys
from hmrkit.viewing.live_scene import PATHS, LiveScene, Side, Wanted

if TYPE_CHECKING:
    from hmrkit.models import Models

POLL_S = 1 / 60
TIMELINE_WIDTH = 300


def require_viser() -> None:
    """UsageError where viser is not installed."""
    if importlib.util.find_spec("viser") is None:
        raise UsageError(
            "the page needs viser, which is not installed; pip install 'hmrkit[view]', or add --html FILE.html"
        )


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
        self.sides = [Side(clip, models, "")] + ([Side(against.clip, against.models, "/against")] if against else [])
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
        self._drawn: Wanted | None = None
        self._clock = time.monotonic()
        self._asked: list[Any] = []  # browsers that wait for a file
        self.scene = LiveScene(self.server, self.sides)
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
        wanted = self._wanted()
        if wanted == self._drawn:
            return False
        self.scene.draw(wanted)
        marked = self._strip.copy()
        marked[:, int((wanted.frame + 0.5) * TIMELINE_WIDTH / max(len(self.clip.frames), 1))] = 255
        self.timeline.image = marked
        self._drawn = wanted
        return True

    def _wanted(self) -> Wanted:
        return Wanted(
            int(self.frame.value), self.posed.value, self.goal.value, self.lifted.value, self.footage.value,
            self.beside.value, self.paths.value, frozenset(who for who, box in self.people.items() if box.value),
        )  # fmt: skip

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
