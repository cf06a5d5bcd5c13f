"""Rendered clips of people in motion that everybody can make again from what ships: `hmrkit.synthetic.clips`, split
test.

Clips are rendered into ``--data`` (by default into the results' folder) when they are first needed, each with a seed of
its own: clip k is the same whatever is rendered before it. Each has a folder with

- ``frames``: JPEG images, what the chain reads. No video file, because x264's adaptive quantisation does not give the
  same bits each time;
- ``clip.mp4``: the same to be watched;
- ``take.npz``: a take of that video whose tracks and bodies are the truth: ``hmrkit render`` draws it,
  ``hmrkit export`` writes it;
- ``truth.npz``: all that is known, also of the frames in which somebody is not seen (`FACTS`).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hmrkit.datasets import BodyTruth, DatasetOptions, EvalSequence, GroundTruth
from hmrkit.errors import InputError, UsageError
from hmrkit.files import atomic_path
from hmrkit.skeletons import SMPL_24, Skeleton
from hmrkit.take import code_version
from hmrkit.types import Camera
from hmrkit.untrusted.arrays import load_arrays

if TYPE_CHECKING:
    from hmrkit.synthetic.clips import Clip, SyntheticClips

# What a user may choose with --dataset-option, and the defaults: clips, seed of the first, frames a clip (30 a second),
# and the images' width in px (their height is three quarters of it).
SETTINGS = {"count": 24, "seed": 20262000, "frames": 90, "width": 640}
# Of P people and T frames, as in `hmrkit.synthetic.clips.Clip`, the bodies in the world; `boxes_xyxy` (P,T,4) px about
# what is visible, NaN where that is too little; `valid` (P,T): a person of whom enough is seen to be judged.
FACTS = (
    "global_orient", "body_pose", "betas", "transl", "joints_c", "keypoints_c", "keypoints_visible", "boxes_xyxy",
    "valid", "camera_from_world", "focal_px", "keypoint_names",
)  # fmt: skip
# A person is seen who covers so much of the image, and judged with so many of the keypoints visible.
SEEN_SHARE, JUDGED_SHARE = 0.001, 0.3
# The sources that clips hang on: other ones may change, and kept clips still stand.
_MADE_BY = (
    "synthetic", "body/model.py", "body/landmarks.py", "rendering/rasteriser.py", "rendering/shading.py", "geometry.py",
    "skeletons.py", "datasets/synthetic_video.py",
)  # fmt: skip
JPEG_QUALITY = 88


class SyntheticVideo:
    """See `hmrkit.datasets.Dataset`."""

    default_protocol = "synthetic-video"

    def __init__(self, name: str, root: Path | None, options: DatasetOptions) -> None:
        if options.split not in ("", "test") or options.subset or options.frame_list:
            raise UsageError(f"dataset {name} has the split test, no subsets and no lists of frames")
        if unknown := set(options.settings) - set(SETTINGS):
            raise UsageError(f"dataset {name} has the options {', '.join(SETTINGS)}, not {', '.join(sorted(unknown))}")
        try:
            chosen = {key: int(options.settings.get(key, default)) for key, default in SETTINGS.items()}
        except ValueError:
            raise UsageError(f"dataset {name}: {', '.join(SETTINGS)} are whole numbers") from None
        self.name, self.root = name, root
        self.count, self.seed, self.frames, self.width = chosen.values()
        if min(self.count, self.frames) < 1 or self.width < 64 or self.width % 64:
            raise UsageError(f"dataset {name}: count and frames must be 1 or more, width a multiple of 64")
        self._clips: SyntheticClips | None = None

    def check(self) -> None:
        """Nothing has to be there; InputError where clips cannot be written, UsageError where they are too long."""
        if self.root is None:
            raise InputError(f"dataset {self.name}: say with --data where its clips go")
        from hmrkit.synthetic.clips import MOST_FRAMES

        if self.frames > MOST_FRAMES:
            raise UsageError(f"dataset {self.name}: the motion is enough for {MOST_FRAMES} frames, not {self.frames}")

    def sequences(self) -> Iterator[EvalSequence]:
        """Clips, each grouped by its kind (`hmrkit.synthetic.clip_scene.KINDS`)."""
        for k in range(self.count):
            yield self._sequence(k)

    def _sequence(self, k: int) -> EvalSequence:
        from hmrkit.synthetic.clip_scene import KINDS
        from hmrkit.synthetic.clips import FPS, SyntheticClips

        assert self.root is not None
        kind = KINDS[k % len(KINDS)]
        folder = self.root / f"clip_{k:03d}_seed_{self.seed + k}_{self.frames}x{self.width}"
        facts = read_facts(folder)
        if facts is None:
            self._clips = self._clips or SyntheticClips("test", (self.width * 3 // 4, self.width))
            facts = write_clip(folder, self._clips(kind, self.frames, self.seed + k), self._clips)
        names = tuple(str(name) for name in facts["keypoint_names"])
        camera = _camera(facts["focal_px"], self.width, self.width * 3 // 4)
        people = []
        for p in range(kind.people):
            keypoints = facts["keypoints_c"][p]
            pixels = keypoints[..., :2] / keypoints[..., 2:] * camera.focal_px + camera.center_px
            seen = np.where(facts["keypoints_visible"][p], 2.0, 1.0)
            people.append(
                GroundTruth(
                    person=f"person_{p + 1}",
                    frame_indices=np.arange(self.frames),
                    valid=facts["valid"][p],
                    boxes_xyxy=facts["boxes_xyxy"][p],
                    joints_c=facts["joints_c"][p],
                    skeleton=SMPL_24,
                    keypoints_2d=np.concatenate([pixels, seen[..., None]], -1).astype(np.float32),
                    keypoint_skeleton=Skeleton("hmrkit-keypoints", names),
                    body=BodyTruth(
                        facts["global_orient"][p],
                        facts["body_pose"][p],
                        facts["betas"][p],
                        facts["transl"][p],
                        gender="neutral",
                        model="hmrkit",
                    ),
                    camera_from_world=facts["camera_from_world"],
                )
            )
        return EvalSequence(
            f"clip_{k:03d}", folder / "frames", self.frames, tuple(people), camera, fps=FPS, group=kind.name
        )


def read_facts(folder: Path) -> dict[str, np.ndarray] | None:
    """What is known of a clip that was rendered before by the code as it is; None: it has to be rendered."""
    path = folder / "truth.npz"
    if not path.is_file():
        return None
    facts = load_arrays(path)
    return facts if str(facts.pop("code")) == code_version(*_MADE_BY) else None


def write_clip(folder: Path, clip: Clip, clips: SyntheticClips) -> dict[str, np.ndarray]:
    """Write a clip's files into `folder`, which it may replace; returns what is known of it (`FACTS`)."""
    from PIL import Image

    from hmrkit.rendering.writer import VideoWriter
    from hmrkit.synthetic.clips import FPS
    from hmrkit.take import save_take

    (folder / "frames").mkdir(parents=True, exist_ok=True)
    people = len(clip.betas)
    boxes = np.stack([_boxes(clip.owner.numpy() == p) for p in range(people)])
    visible = clip.keypoints_visible.numpy()
    facts = {key: np.asarray(getattr(clip, key)) for key in FACTS if hasattr(clip, key)}
    facts = {key: v if v.dtype == bool else v.astype(np.float32) for key, v in facts.items()}
    facts["boxes_xyxy"] = boxes
    facts["valid"] = np.isfinite(boxes).all(-1) & (visible.mean(-1) >= JUDGED_SHARE)
    facts["keypoint_names"] = np.array(clips.body.keypoint_names)
    height, width = clip.owner.shape[1:]
    with VideoWriter(folder / "clip.mp4", width, height, Fraction(FPS)) as writer:
        for k, frame in enumerate(clip.frames.numpy()):
            writer.write(frame)
            with atomic_path(folder / "frames" / f"{k:04d}.jpg") as temporary:
                Image.fromarray(frame).save(temporary, format="JPEG", quality=JPEG_QUALITY)
    save_take(_take(folder / "clip.mp4", facts, clips), folder / "take.npz")
    with atomic_path(folder / "truth.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, code=np.array(code_version(*_MADE_BY)), **facts)  # type: ignore[arg-type]
    return facts


def _take(video: Path, facts: dict[str, np.ndarray], clips: SyntheticClips):
    """The truth as a take: a track and a body of each person in the frames in which it is seen."""
    from hmrkit.types import BodyParams, Take, Track
    from hmrkit.video import probe

    info = probe(video)
    tracks, bodies = [], {}
    for p, boxes in enumerate(facts["boxes_xyxy"]):
        rows = np.nonzero(np.isfinite(boxes).all(-1))[0]
        if not len(rows):
            continue
        ones = np.ones(len(rows), np.float32)
        tracks.append(Track(p + 1, info.frame_indices[rows], boxes[rows], ones, np.zeros(len(rows), bool)))
        betas = facts["betas"][p]
        pelvis = clips.body.joints_only(betas=betas).joints[:, 0].numpy()
        bodies[p + 1] = BodyParams(
            facts["camera_from_world"][rows, :3, :3] @ facts["global_orient"][p, rows], facts["body_pose"][p, rows],
            betas, facts["joints_c"][p, rows, 0] - pelvis, "neutral", clips.body.model_id,
        )  # fmt: skip
    camera = _camera(facts["focal_px"], info.width, info.height)
    truth = {"options": {"truth": "synthetic-video"}, "weights": {}, "input": info.sha256, "code": code_version()}
    made = {"track": truth, "regress": truth}
    return Take(info, camera, tracks=tuple(tracks), body=bodies, faces=clips.body.faces, provenance=made)


def _camera(focal_px: np.ndarray, width: int, height: int) -> Camera:
    focal = np.full(2, focal_px, np.float32)
    return Camera(focal, np.array([width / 2, height / 2], np.float32), width, height, "given")


def _boxes(masks: np.ndarray) -> np.ndarray:
    """Boxes (T,4) about the pixels of masks (T,H,W), NaN where there are too few."""
    lines = [np.asarray(masks.any(axis)) for axis in (1, 2)]
    low = [line.argmax(1) for line in lines]
    high = [line.shape[1] - line[:, ::-1].argmax(1) for line in lines]
    boxes = np.stack([*low, *high], -1).astype(np.float32)
    boxes[masks.mean((1, 2)) < SEEN_SHARE] = np.nan
    return boxes


def load(name: str, root: Path | None, options: DatasetOptions) -> SyntheticVideo:
    """`root`: where clips are rendered to."""
    return SyntheticVideo(name, root, options)
