"""The same work by other libraries, where they are installed: one run, alternately, so that ratios mean something."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from hmrkit.body import load_body
from hmrkit.body.files import find_body, read_smpl_file
from hmrkit.body.smplx_files import smplx_model
from hmrkit.engines import frozen
from hmrkit.errors import WeightsError
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.options import Options
from hmrkit.pipeline import open_clip
from hmrkit.video import read_frames
from hmrkit.weights import find_weights

ROUNDS, BODIES = 7, 16
BLAZEPOSE, SIDE = "pose_landmark_heavy.tflite", 256
Work = Callable[[], Any]


class MissingPeerError(Exception):
    """What is not here to be compared with."""


def compare_peers(video: str, options: Options) -> dict[str, dict[str, Any]]:
    """Name of the work -> {"peer", "ms", "peer_ms" (medians), "ratio", "spread"} or {"peer", "skipped": why}.

    `ratio` is how many times as long the peer takes: the median, in `spread` least and most of the rounds.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, peer, make in (
        ("BlazePose-heavy, one crop", "LiteRT", lambda: _blazepose(video, options)),
        (f"{BODIES} posed bodies", "smplx", _bodies),
        ("an OBJ file", "trimesh", lambda: _writers("obj")),
        ("a PLY file", "trimesh", lambda: _writers("ply")),
    ):
        try:
            with torch.no_grad():
                found[name] = {"peer": peer, **alternately(*make())}
        except (MissingPeerError, WeightsError) as error:
            found[name] = {"peer": peer, "skipped": str(error)}
    return found


def alternately(own: Work, other: Work, rounds: int = ROUNDS) -> dict[str, Any]:
    """Both timed in turns, after a first time that does not count."""
    seconds = np.zeros((2, rounds))
    for k in range(-1, rounds):
        for side, work in enumerate((own, other)):
            started = time.perf_counter()
            work()
            seconds[side, k] = time.perf_counter() - started  # the first time is overwritten by the last
    ms, ratio = np.median(seconds, 1) * 1e3, seconds[1] / seconds[0]
    return {
        "ms": float(ms[0]), "peer_ms": float(ms[1]),
        "ratio": float(np.median(ratio)), "spread": [float(ratio.min()), float(ratio.max())],
    }  # fmt: skip


def _wanted(package: str) -> None:
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        raise MissingPeerError(f"{package} is not installed")


def _blazepose(video: str, options: Options) -> tuple[Work, Work]:
    """Our network on its engine, and MediaPipe's file on LiteRT, on the clip's first frame."""
    _wanted("ai-edge-litert")
    path = find_weights(BLAZEPOSE)
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found]

    from hmrkit.blazepose.network import load_network

    frame = torch.from_numpy(next(iter(read_frames(open_clip(video, options).video, batch_size=1))).frames)
    crop = torch.nn.functional.interpolate(frame.permute(0, 3, 1, 2).float() / 255, (SIDE, SIDE), mode="area")
    network = frozen(load_network())
    interpreter = Interpreter(model_path=str(path), num_threads=torch.get_num_threads())
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]
    pixels = crop.permute(0, 2, 3, 1).contiguous().numpy()

    def other() -> None:
        interpreter.set_tensor(place, pixels)
        interpreter.invoke()

    return lambda: network(crop), other


def _bodies() -> tuple[Work, Work]:
    """Vertices of posed people by our body model and by smplx's, from one file."""
    _wanted("smplx")
    path = find_body(None, "neutral")
    body, reference = load_body(path), smplx_model(read_smpl_file(path), torch.float32)
    generator = torch.Generator().manual_seed(0)
    pose = 0.4 * torch.randn(BODIES, 24, 3, generator=generator)
    betas, transl = torch.randn(BODIES, 10, generator=generator), torch.randn(BODIES, 3, generator=generator)

    def own() -> None:
        rotations = axis_angle_to_matrix(pose)
        body(rotations[:, 0], rotations[:, 1:], betas, transl)

    def other() -> None:
        reference(betas=betas, global_orient=pose[:, 0], body_pose=pose[:, 1:].flatten(1), transl=transl)

    return own, other


def _writers(kind: str) -> tuple[Work, Work]:
    """A frame of a mesh sequence as the bytes of a file."""
    import trimesh

    from hmrkit.exporters import obj, ply

    body = load_body()
    vertices, faces = body().vertices[0].numpy(), np.asarray(body.faces)
    # What a writer reads of a scene and of a person before the first frame.
    scene: Any = SimpleNamespace(fps=25.0, metadata={}, up="y", unit="m", space="camera")
    person: Any = SimpleNamespace(name="person_01", faces=faces, rest_vertices=vertices)
    encode = {"obj": obj, "ply": ply}[kind].encoder(scene, person)
    return lambda: encode(0, vertices), lambda: trimesh.Trimesh(vertices, faces, process=False).export(file_type=kind)
