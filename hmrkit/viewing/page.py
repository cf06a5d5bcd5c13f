"""One HTML file that shows a take: no server, no network, nothing to install.

The file holds a gzipped block of arrays and the small program that draws them. Rotations are stored as quaternions in
16 bits, joints in 16 bits about each frame's root, as differences from frame to frame, which pack better. The block:
the length of a JSON header (uint32, little endian), the header, then the arrays it lists, each at a multiple of 4.
"""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import logging
import re
import struct
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hmrkit.files import atomic_path
from hmrkit.geometry import matrix_to_quaternion
from hmrkit.skeletons import SMPL_24
from hmrkit.types import VideoInfo
from hmrkit.viewing.against import Against
from hmrkit.viewing.clip import ViewClip
from hmrkit.viewing.paths import PATH_JOINTS, shot_starts

if TYPE_CHECKING:
    from hmrkit.models import Models
    from hmrkit.pipeline import Progress

log = logging.getLogger(__name__)

PARTS = ("math", "data", "shaders", "draw", "timeline", "paths", "keys", "people", "save", "ui")
UNIT = 32767
PICTURE_QUALITY = 55


def write_page(
    clip: ViewClip,
    path: Path,
    models: Models,
    image_width: int = 0,
    progress: Progress = lambda *_: None,
    against: Against | None = None,
) -> Path:
    """Write the page of a clip, and of another take `against` it; returns the path.

    `image_width` px > 0 also packs the footage at that width.
    """
    block, sides = Block(), [(clip, models)] + ([(against.clip, against.models)] if against else [])
    for file in {using.options.body for _, using in sides} - {None}:
        log.warning("%s holds much of the body model %s: its licence says who may have it", path, file)
    header: dict[str, Any] = {
        "title": Path(clip.take.video.path).name,
        "fps": clip.fps,
        "frames": block.add(clip.frames.astype(np.int32)),
        "times": block.add(clip.times.astype(np.float32)),
        "worldFromCamera": clip.world_from_camera.ravel().tolist(),
        "leveled": clip.leveled,
        "jointNames": list(SMPL_24.joints),
        "pathJoints": list(PATH_JOINTS),
        "takes": [],
        "bodies": [],
        "people": [],
        "pairs": [[pair.first, pair.second, pair.title()] for pair in against.pairs] if against else [],
    }
    known: dict[str, int] = {}
    names = against.names if against else ("",)
    for k, ((of_take, using), name) in enumerate(zip(sides, names, strict=True)):
        header["takes"].append({"name": name, "camera": _camera(of_take), "shotStarts": shot_starts(of_take).tolist()})
        header["people"] += [{"take": k, **_person(block, person)} for person in of_take.people]
        if not of_take.people:
            continue
        if using.body.model_id not in known:
            calibrated = any(person.goal is not None for side, _ in sides for person in side.people)
            known[using.body.model_id] = len(header["bodies"])
            header["bodies"].append(_body(block, using, calibrated))
        header["takes"][k]["body"] = known[using.body.model_id]
    if image_width > 0:
        header["pictures"] = _images(block, clip.take.video, image_width, progress)
    packed = base64.b64encode(block.packed(header)).decode()
    folder = resources.files("hmrkit.viewing")
    text = (folder / "page.html").read_text(encoding="utf-8")
    script = "\n".join((folder / f"page_{part}.js").read_text(encoding="utf-8") for part in PARTS)
    parts = {"title": html.escape(header["title"]), "script": script, "data": packed}
    text = re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], text)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _camera(clip: ViewClip) -> dict[str, Any]:
    """The filming camera: pixels, and what the focal length is multiplied by in each frame where the lens zooms."""
    camera = clip.take.camera
    entry: dict[str, Any] = {
        "focal": camera.focal_px.tolist(),
        "center": camera.center_px.tolist(),
        "size": [camera.width, camera.height],
    }
    zoom = camera.zoom_at(clip.frames)
    return entry if zoom is None else entry | {"zoom": zoom.tolist()}


class Block:
    """Arrays one behind the other, and what a reader must know of each."""

    def __init__(self) -> None:
        self._data = io.BytesIO()

    def add(self, values: np.ndarray, scale: float = 1.0, difference: bool = False) -> dict[str, Any]:
        """Put an array in: its place, kind and shape, and the `scale` of its numbers.

        `difference`: stored as what changes along the first axis (in the integer's own wrap-around arithmetic).
        """
        stored = np.ascontiguousarray(values)
        if difference:
            stored = np.concatenate([stored[:1], stored[1:] - stored[:-1]])
        self._data.write(b"\0" * (-self._data.tell() % 4))
        place = self._data.tell()
        self._data.write(stored.astype(stored.dtype.newbyteorder("<")).tobytes())
        entry = {"at": place, "kind": stored.dtype.name, "shape": list(stored.shape), "scale": scale}
        return entry | {"difference": difference}

    def packed(self, header: dict[str, Any]) -> bytes:
        """Header and arrays, gzipped; equal content gives equal bytes."""
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        return gzip.compress(struct.pack("<I", len(text)) + text + self._data.getvalue(), 6, mtime=0)


def _person(block: Block, person: Any) -> dict[str, Any]:
    entry = {
        "id": person.track_id,
        "colour": list(person.colour),
        "rows": block.add(person.rows),
        "restVertices": block.add(person.rest_vertices.astype(np.float32)),
        "restJoints": block.add(person.rest_joints.astype(np.float32)),
        "posed": _skeleton(block, person.posed.rotations, person.posed.places),
        "confidence": block.add(person.evidence.confidence),
        "contact": block.add(person.evidence.contact.astype(np.uint8)),
    }
    if person.goal is not None:
        entry["goal"] = _skeleton(block, person.goal.rotations, person.goal.places)
    if person.lifted is not None:
        places = np.nan_to_num(person.lifted.places)
        entry["lifted"] = {"places": _places(block, places), "bones": [list(bone) for bone in person.lifted.bones]}
    return entry


def _skeleton(block: Block, rotations: np.ndarray, places: np.ndarray) -> dict[str, Any]:
    places, roots = np.nan_to_num(places), np.nan_to_num(places[:, 0])
    return {
        "turns": block.add(quantised_rotations(rotations), 1 / UNIT, difference=True),
        "places": _places(block, places - roots[:, None]),
        "roots": block.add(roots.astype(np.float32)),
    }


def quantised_rotations(rotations: np.ndarray) -> np.ndarray:
    """Rotations (T,J,3,3) -> quaternions (T,J,4) w, x, y, z int16, without jumps of sign from frame to frame."""
    safe = np.where(np.isfinite(rotations), rotations, np.eye(3))
    quaternions = matrix_to_quaternion(torch.from_numpy(safe).double()).numpy()
    jumps = (quaternions[1:] * quaternions[:-1]).sum(-1) < 0
    sign = np.concatenate([np.ones_like(jumps[:1], float), np.where(np.cumsum(jumps, 0) % 2, -1.0, 1.0)])
    return np.round(quaternions * sign[..., None] * UNIT).astype(np.int16)


def _places(block: Block, places: np.ndarray) -> dict[str, Any]:
    values, scale = quantised(places)
    return block.add(values, scale, difference=True)


def quantised(values: np.ndarray) -> tuple[np.ndarray, float]:
    """`values` as int16 times the scale that is returned too: the largest becomes 32767."""
    scale = max(float(np.abs(values).max(initial=0.0)), 1e-6) / UNIT
    return np.round(values / scale).astype(np.int16), scale


def _body(block: Block, models: Models, calibrated: bool) -> dict[str, Any]:
    """Faces, weights (V,24) and pose shapes (V,207,3) of the body; attachment and place (V,23) of calibration."""
    body = models.body
    shapes, scale = quantised(body.pose_shapes().cpu().numpy().transpose(1, 0, 2))
    entry = {
        "parents": list(body.parents),
        "faces": block.add(np.asarray(body.faces, np.uint32)),
        "weights": _share(block, body.weights),
        "shapes": block.add(shapes, scale),
    }
    if calibrated:
        entry["attachment"] = _share(block, models.calibration.attachment)
        entry["place"] = _share(block, models.calibration.place)
    return entry


def _share(block: Block, values: torch.Tensor) -> dict[str, Any]:
    dense = values.to_dense() if values.is_sparse else values
    return block.add(np.round(dense.cpu().double().numpy() * 65535).astype(np.uint16), 1 / 65535)


def _images(block: Block, video: VideoInfo, width: int, progress: Progress) -> dict[str, Any]:
    """The footage as WebP images in a row; `ends` (N,) is where each of the timeline stops, empty where unread."""
    pieces, ends, total = {}, [], len(video.frame_indices)
    for index, image in _encoded(video, width):
        pieces[index] = image
        progress("images", len(pieces), total)
    size = 0
    for frame in video.frame_indices:
        size += len(pieces.get(int(frame), b""))
        ends.append(size)
    joined = b"".join(pieces.get(int(frame), b"") for frame in video.frame_indices)
    return {"bytes": block.add(np.frombuffer(joined, np.uint8)), "ends": block.add(np.array(ends, np.int32))}


def _encoded(video: VideoInfo, width: int) -> Iterator[tuple[int, bytes]]:
    from PIL import Image

    from hmrkit.video import read_frames

    size = (width, max(round(width * video.height / video.width), 1))
    for batch in read_frames(video, batch_size=8):
        for index, frame in zip(batch.frame_indices, batch.frames, strict=True):
            buffer = io.BytesIO()
            small = Image.fromarray(frame).resize(size, Image.Resampling.BOX)
            small.save(buffer, "WEBP", quality=PICTURE_QUALITY)
            yield int(index), buffer.getvalue()
