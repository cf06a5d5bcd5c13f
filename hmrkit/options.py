"""What a user can choose about a run: the methods as data, and every option once, from which flags, help texts and
provenance are made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from hmrkit.detectors import DETECTORS
from hmrkit.errors import UsageError
from hmrkit.keypoints import KEYPOINTS
from hmrkit.lifters import LIFTERS
from hmrkit.members import RATES, Range, check_number, choose, visible
from hmrkit.mesh_streams import MESH_STREAMS, StreamMember
from hmrkit.trackers import TRACKERS


@dataclass(frozen=True)
class Method:
    """A mesh stream (`mesh` is the method's own) and whether its meshes are calibrated by a lifted pose (PC-HMR)."""

    mesh: str
    summary: str
    calibrated: bool = False
    for_tests: bool = False
    argument: str = ""


METHODS: dict[str, Method] = {
    **{
        name: Method(name, stream.summary, for_tests=stream.for_tests, argument=stream.argument)
        for name, stream in MESH_STREAMS.items()
    },
    "pc-hmr": Method("fit", "a mesh stream (--mesh) calibrated by a temporally lifted pose (PC-HMR)", True),
}


@dataclass(frozen=True)
class Way:
    """One of the values that an option can have."""

    summary: str
    for_tests: bool = False
    argument: str = ""


@dataclass(frozen=True, kw_only=True)
class PoseStream(Way):
    """What gives the 3D pose that meshes are calibrated to: the stage that it `reads`, the `models` that it uses, and
    whether it needs keypoints with 3D joints."""

    models: tuple[str, ...]
    reads: str = "pose"
    needs_depth: bool = False


MODES: dict[str, Way] = {
    "parallel": Way("a pose stream beside the mesh stream, which sees the image itself"),
    "serial": Way("the mesh stream's own joints, projected into the image and lifted"),
}
SERIAL = PoseStream("the mesh stream's own 2D joints lifted through time", models=("lifter", "body"), reads="regress")
# The pose streams of parallel mode.
POSES_3D: dict[str, PoseStream] = {
    "lifted": PoseStream("2D keypoints lifted through time", models=("lifter",)),
    "direct": PoseStream("3D joints that the keypoint estimator sees", models=("body",), needs_depth=True),
    "fused": PoseStream(
        "both, joint by joint by how far each errs", models=("lifter", "body", "pose_uncertainty"), needs_depth=True
    ),
}


@dataclass(frozen=True, kw_only=True)
class CalibrationDesign(Way):
    """A design of PC-HMR's calibration; `parts` are those of `hmrkit.calibration.variants.load_variant`."""

    parts: Mapping[str, bool] = field(default_factory=dict)


CALIBRATIONS: dict[str, CalibrationDesign] = {
    "full": CalibrationDesign("learned weights, bones change their lengths"),
    "rigid": CalibrationDesign("without the non-rigid term", parts={"rigid": True}),
    "geometric": CalibrationDesign("weights from the body's geometry alone", parts={"learned": False}),
    "template": CalibrationDesign("the mean body at rest in place of the mesh stream's mesh", parts={"template": True}),
}


# What gives people their shape.
SHAPES: dict[str, Way] = {
    "silhouette": Way("bone lengths, or a regressor's shape, and the outlines of the person's masks"),
    "bones": Way("bone lengths over the track"),
    "mesh": Way("as the mesh stream has it"),
    "mean": Way("the mean body's"),
}


# What draws meshes. `auto` is the fastest that is measured on each kind of machine. On a graphics card OpenGL is not.
RENDERERS: dict[str, Way] = {
    "auto": Way("PyTorch on CUDA, compiled loops on CPUs where they are worth their start"),
    "torch": Way("PyTorch, on any device"),
    "compiled": Way("compiled loops (Numba) on the CPU; no --alpha, no wireframes"),
    "gl": Way("OpenGL by EGL, on any graphics card that has a driver for it; needs hmrkit[gl]"),
}


# Options that only methods which calibrate have a use for.
POSE_CHOICES = ("mode", "pose3d", "calibration")

OUTPUTS = ("export", "render", "view")


@dataclass(frozen=True)
class Option:
    """What is known of an option beside its default. `changes` are the stages whose result it changes, `also` the
    other subcommands that have it; `choices` is the table that it chooses from, `allowed` the range of a number."""

    help: str
    changes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    choices: Mapping[str, Any] | None = None
    allowed: Range | None = None

    @property
    def text(self) -> str:
        """The help text, with the members that can be chosen."""
        if self.choices is None:
            return self.help
        spelled = [name + _argument(member) for name, member in visible(self.choices).items()]
        return f"{self.help}: {', '.join(spelled)}."


def _argument(member: Any) -> str:
    argument = getattr(member, "argument", "")
    return f"[:{argument[1:-1]}]" if argument.startswith("[") else f":{argument.upper()}" if argument else ""


def option(default: Any, help: str, changes: tuple[str, ...] = (), **rest: Any) -> Any:
    """A field of `Options`; see `Option`."""
    return field(default=default, metadata={"option": Option(help, changes, **rest)})


@dataclass(frozen=True)
class Options:
    """Everything that a user can choose about a run. Names follow the command line's.

    `mesh` None is the method's own stream, ``fit`` for ``pc-hmr``; `refine`, `smooth` and `shape` None are the mesh
    stream's defaults, `stand` None goes with `smooth`, `pose3d` None is fused where that measures best. All are what
    was chosen once the options are made. `smooth` is the strength of `smooth_body`, 0 for none."""

    method: str = option("pc-hmr", "How meshes are made", choices=METHODS)
    mesh: str | None = option(
        None, "Mesh stream that the method calibrates (else fit)", ("regress",), choices=MESH_STREAMS
    )
    checkpoint: str | None = option(
        None, "A checkpoint of your own for the regressor (as published, or hmrkit's).", also=("regress",)
    )
    detector: str = option("yolox-nano", "What finds people", ("detect",), choices=DETECTORS)
    detector_size: int | None = option(
        None,
        "Longer side in px of what the detector sees, for people who are small in the image. [default: half of the "
        "frame's, 640 to 832]",
        ("detect",),
        allowed=(64, 8192),
    )
    detect_every: int | None = option(
        None,
        "Detect on every N-th frame. Boxes between are interpolated where the same people are in both, elsewhere "
        "detected as well. [default: about 9 a second from 24 frames a second on, else 1]",
        ("detect",),
        allowed=(1, 100),
    )
    cuts: str = option(
        "auto",
        "Shot changes, which no track crosses: auto (by colours), off, or a text file of the frames that begin a shot.",
        ("detect",),
    )
    tracker: str = option("bytetrack", "What joins detections into people", ("track",), choices=TRACKERS)
    people: str = option("all", "all, largest, or how many (the N most visible, in each shot).", ("track",))
    keypoints: str = option("blazepose-heavy", "What finds keypoints", ("pose",), choices=KEYPOINTS)
    lifter: str = option("videopose3d", "What lifts keypoints to 3D through time", ("lift",), choices=LIFTERS)
    lifter_checkpoint: str | None = option(
        None, "A checkpoint of your own for the lifter (as published, or hmrkit's).", also=("lift",)
    )
    lifter_skeleton: str | None = option(
        None,
        "Order of the 2D joints that a published VideoPose3D checkpoint reads, which its file does not show: coco17 or "
        "h36m17 (those of CPN's keypoints). [default: coco17]",
        ("lift",),
    )
    mode: str = option("parallel", "Where the pose comes from that meshes are calibrated to", ("lift",), choices=MODES)
    pose3d: str | None = option(
        None,
        "That pose in parallel mode (else fused where the errors of lifter and keypoints were measured, or lifted)",
        ("lift",),
        choices=POSES_3D,
    )
    calibration: str = option(
        "full", "Design of the calibration, as the paper compares them", ("calibrate",), choices=CALIBRATIONS
    )
    flip: bool = option(True, "Lift the mirrored keypoints too and average.", ("lift",))
    flip_test: bool | None = option(
        None,
        "Regressors predict from mirrored crops, too, and average: twice the cost. [default: yes for those that ship]",
        ("regress",),
    )
    smooth: float | None = option(
        None,
        "Take jitter out of the mesh stream, without delay: 0 is off. [default: 1, for file 0]",
        ("regress",),
        allowed=(0, 1000),
    )
    stand: bool | None = option(
        None,
        "Straighten the knees of who stands on unmoving feet. [default: on where meshes are smoothed]",
        ("regress",),
    )
    refine: bool | None = option(
        None, "SMPLify over each whole track. [default: on for fit, off for regressors]", ("regress",)
    )
    shape: str | None = option(
        None,
        "What gives people their shape (else silhouette where the keypoints' network makes masks, for fit and hmrkit's "
        "own regressors; mesh elsewhere)",
        ("regress",),
        choices=SHAPES,
    )
    params_only: bool = option(
        False, "Body parameters and joints only: no vertices are made, refits are compared by joints.", ("calibrate",)
    )
    body: str | None = option(
        None,
        "A SMPL, SMPL-H or SMPL-X file of your own (.pkl or .npz); smpl, smplh or smplx: the one you imported.",
        also=("regress", "lift", "calibrate", *OUTPUTS, "info"),
    )
    gender: str = option(
        "neutral",
        "neutral, male or female; auto: for each person the body that explains their silhouettes best. A take's own "
        "wins.",
        ("regress",),
        also=(*OUTPUTS, "info"),
    )
    focal: float | None = option(None, "Focal length in pixels, if known.", also=("detect",), allowed=(1, 1e7))
    fov: float | None = option(
        None,
        "Field of view across the longer side in degrees, if known (else 55).",
        also=("detect",),
        allowed=(1, 179),
    )
    fov_track: bool = option(
        False,
        "Follow a lens that zooms, by what lies about the people: one focal length per frame, --focal or --fov in the "
        "first. Of a camera that stands or pans.",
        ("detect",),
    )
    start: str | None = option(None, "First frame: a frame number, seconds (2.5s) or hh:mm:ss.", ("detect",))
    end: str | None = option(None, "Frame to stop before, given like --start.", ("detect",))
    every: int = option(1, "Take every N-th frame.", ("detect",), allowed=(1, 1e9))
    fps: float | None = option(None, "Frame rate of a folder of frames (else 30).", ("detect",), allowed=RATES)
    capture_fps: float | None = option(
        None,
        "Rate at which slow motion was captured. [default: as the camera noted, else the clip's]",
        ("detect",),
        allowed=RATES,
    )
    failed_frames: float = option(
        0.5,
        "Share of a clip's frames that may be undecodable before it counts as failed.",
        also=("run",),
        allowed=(0, 1),
    )
    timeout: float = option(
        60.0,
        "Seconds without progress after which a decoder is given up.",
        also=("run", "detect", "pose", "regress", "render"),
        allowed=(0.1, 1e6),
    )
    decoder: str = option(
        "auto",
        "What decodes videos: auto (decord, else PyAV), pyav, or torchcodec, on the GPU where there is one (needs "
        "hmrkit[torchcodec]); PyAV reads what torchcodec cannot.",
        also=("run", "detect", "pose", "regress", "render"),
    )
    allow_playlists: bool = option(
        False,
        "Clips may be playlists (ffconcat, HLS), whose parts lie in the same folder.",
        also=("run", "detect", "pose", "regress", "render", "info"),
    )
    device: str = option(
        "auto",
        "auto, cpu or cuda:N; of run also cuda:all, a process for each GPU.",
        also=("detect", "pose", "regress", "lift", "calibrate", *OUTPUTS),
    )
    engine: str = option(
        "auto",
        "What runs frozen networks: auto, torch, compile (torch.compile, on GPUs), onnxruntime or openvino. auto is "
        "ONNX Runtime on CPUs, else PyTorch.",
        also=("detect", "pose", "regress"),
    )
    renderer: str = option(
        "auto",
        "What draws meshes (gl is OpenGL by EGL, which needs hmrkit[gl])",
        also=("run", "render"),
        choices=RENDERERS,
    )
    dtype: str = option("float32", "float32, bfloat16 or float16 for the networks.", ("detect", "pose"))
    batch_size: int | None = option(
        None,
        "Frames in flight at once; bounds memory. BlazePose always gets 8. [default: 8; on a GPU by its free memory, 8 "
        "to 32]",
        also=("detect", "pose", "regress", "render"),
        allowed=(1, 4096),
    )

    def __post_init__(self) -> None:
        method, argument = choose(METHODS, self.method, "method")
        own = f"{method.mesh}:{argument}" if argument else method.mesh
        mesh = self.mesh or own
        stream, _ = choose(MESH_STREAMS, mesh, "mesh stream")
        if not method.calibrated and mesh != own:
            raise UsageError(
                f"--method {self.method} is its own mesh stream; for --mesh {mesh} use --method {mesh} or pc-hmr"
            )
        if self.checkpoint and "regressor" not in stream.models:
            trained = (name for name, other in visible(MESH_STREAMS).items() if "regressor" in other.models)
            raise UsageError(f"--checkpoint is a regressor's ({', '.join(trained)}), but the mesh stream is {mesh}")
        if self.fov_track and mesh.startswith("file:"):
            raise UsageError(
                f"the bodies of --mesh {mesh} stand before a camera of their own, which knows nothing of a zoom; "
                "leave --fov-track out"
            )
        for name, facts in OPTIONS.items():
            if facts.allowed:
                check_number(f"--{name.replace('_', '-')}", getattr(self, name), facts.allowed)
        if self.people not in ("all", "largest") and not re.fullmatch(r"0*[1-9][0-9]{0,8}", self.people):
            raise UsageError(f"--people must be all, largest or a number from 1, got {self.people!r}")
        choose(DETECTORS, self.detector, "detector")
        choose(TRACKERS, self.tracker, "tracker")
        choose(LIFTERS, self.lifter, "lifter")
        choose(MODES, self.mode, "mode")
        choose(POSES_3D, self.pose3d or "lifted", "3D pose")
        choose(CALIBRATIONS, self.calibration, "calibration")
        object.__setattr__(self, "mesh", mesh)
        object.__setattr__(self, "smooth", stream.smooth_by_default if self.smooth is None else self.smooth)
        object.__setattr__(self, "stand", bool(self.smooth) if self.stand is None else self.stand)
        if self.shape is None:
            has_masks = choose(KEYPOINTS, self.keypoints, "keypoint estimator")[0].has_masks
            object.__setattr__(self, "shape", "silhouette" if stream.masks_shape and has_masks else "mesh")
        choose(SHAPES, str(self.shape), "shape")
        choose(RENDERERS, self.renderer, "renderer")
        if self.flip_test is not None and ("regressor" not in stream.models or stream.published):
            raise UsageError(f"--flip-test is for hmrkit's own regressors, found --mesh {mesh}; leave it out")
        if self.gender == "auto" and self.body:
            raise UsageError(
                f"--gender auto compares hmrkit's own bodies; leave out --body {self.body}, or name a gender"
            )
        if self.gender == "auto" and self.shape != "silhouette":
            raise UsageError(
                f"--gender auto goes by silhouettes (--shape silhouette, --keypoints blazepose-heavy), but --shape is "
                f"{self.shape}; name a gender, or choose those"
            )
        object.__setattr__(self, "refine", stream.refine_by_default if self.refine is None else self.refine)
        if method.calibrated:
            object.__setattr__(self, "pose3d", self.pose3d or self._usual_pose3d())
            self._check_pose_stream()
        elif given := [name for name in POSE_CHOICES if getattr(self, name) != getattr(Options, name)]:
            raise UsageError(
                f"--{given[0]} is about the pose that meshes are calibrated to, but --method {self.method} calibrates "
                f"none; leave it out, or use --method pc-hmr --mesh {mesh}"
            )

    def _usual_pose3d(self) -> str:
        """What measures best: both poses, where the errors of this lifter and these keypoints are known."""
        from hmrkit.calibration.pose_uncertainty import is_measured

        fuses = self.mode == "parallel" and self.lifter_checkpoint is None
        return "fused" if fuses and is_measured(self.lifter, self.keypoints) else "lifted"

    def _check_pose_stream(self) -> None:
        """UsageError where the pose stream and the others contradict one another."""
        has_depth = choose(KEYPOINTS, self.keypoints, "keypoint estimator")[0].has_depth
        deep = ", ".join(name for name, member in visible(KEYPOINTS).items() if member.has_depth)
        if self.mode == "serial" and self.pose3d != "lifted":
            raise UsageError(f"--mode serial lifts the mesh's own pose; --pose3d {self.pose3d} is for --mode parallel")
        if self.pose_stream.needs_depth and not has_depth:
            raise UsageError(
                f"--pose3d {self.pose3d} wants keypoints with 3D ({deep}), --keypoints is {self.keypoints}"
            )
        if self.mode == "serial" and self.needs_depth and not has_depth:
            raise UsageError(
                f"--mode serial lifts the bodies of --mesh {self.mesh}, which itself needs 3D keypoints, but those of "
                f"{self.keypoints} are 2D; use --keypoints {deep}, or a regressor without --refine"
            )

    @property
    def calibrated(self) -> bool:
        """Whether the method calibrates the meshes."""
        return choose(METHODS, self.method, "method")[0].calibrated

    @property
    def stream(self) -> StreamMember:
        """The line of its mesh stream."""
        return choose(MESH_STREAMS, str(self.mesh), "mesh stream")[0]

    @property
    def needs_depth(self) -> bool:
        """Whether its mesh stream, the refinement or the shape wants 3D keypoints."""
        return self.stream.needs_depth or bool(self.refine) or self.shape == "bones"

    @property
    def pose_stream(self) -> PoseStream:
        """The line of its pose stream."""
        return SERIAL if self.mode == "serial" else POSES_3D[self.pose3d or "lifted"]

    @property
    def calibration_design(self) -> CalibrationDesign:
        """The line of its calibration."""
        return CALIBRATIONS[self.calibration]

    @property
    def pose_name(self) -> str:
        """What files of measured errors call its pose stream."""
        if self.mode == "serial":
            return f"serial, {self.lifter}"
        return ", ".join([str(self.pose3d), *([self.lifter] if self.pose3d != "direct" else []), self.keypoints])


OPTIONS: dict[str, Option] = {item.name: item.metadata["option"] for item in fields(Options)}


def changing(stage: str) -> tuple[str, ...]:
    """The options that change a stage's result: provenance records them."""
    return tuple(name for name, facts in OPTIONS.items() if stage in facts.changes)
