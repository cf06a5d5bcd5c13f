"""Keys of the served page: they set its controls, as a click would. viser has keys from 1.1 on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hmrkit.geometry import matrix_to_quaternion

if TYPE_CHECKING:
    from hmrkit.viewing.server import LivePage

DIGITS = "123456789"


def add_keys(page: LivePage) -> dict[str, Callable[[Any], None]]:
    """Let the keys of the page act, list them in a folder of it, and return what each does; none without viser 1.1.

    Each takes viser's event, of which the camera's key reads the ``client``.
    """
    gui = page.server.gui
    if not hasattr(gui, "add_command"):
        return {}

    def step(frames: int) -> Callable[[Any], None]:
        def act(_: Any) -> None:
            page.playing.value = False
            page.frame.value = int(np.clip(page.frame.value + frames, 0, len(page.clip.frames) - 1))

        return act

    def flip(box: Any) -> Callable[[Any], None]:
        def act(_: Any) -> None:
            box.value = not box.value

        return act

    def next_paths(_: Any) -> None:
        kinds = page.paths.options
        page.paths.value = kinds[(kinds.index(page.paths.value) + 1) % len(kinds)]

    table = [
        ("play, pause", "space", flip(page.playing)),
        ("one frame back", "arrowleft", step(-1)),
        ("one frame on", "arrowright", step(1)),
        ("first frame", "home", step(-len(page.clip.frames))),
        ("last frame", "end", step(len(page.clip.frames))),
        ("through the filming camera", "C", lambda event: _through(page, event.client)),
        ("joint paths: last second, whole clip, off", "J", next_paths),
        *((f"{box.label} on, off", digit, flip(box)) for digit, box in zip(DIGITS, page.boxes, strict=False)),
    ]
    for label, key, act in table:
        gui.add_command(label, hotkey=key).on_trigger(act)
    with gui.add_folder("keys", expand_by_default=False):
        gui.add_markdown("\n".join(f"- `{key}` {label}" for label, key, _ in table))
    return {key: act for _, key, act in table}


def _through(page: LivePage, client: Any) -> None:
    matrix = page.clip.world_from_camera
    client.camera.wxyz = matrix_to_quaternion(torch.from_numpy(matrix[:3, :3])).numpy()
    client.camera.position = matrix[:3, 3]
    client.camera.fov = page.scene.fov_y(int(page.frame.value))
