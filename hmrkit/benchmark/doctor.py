"""Would the main job run on this machine? Python, packages, engines, codecs, weights, room, and a short run of the
default chain on a clip whose truth is known: a body drawn before a grey wall.

Every part is imported by the check that needs it, so that a broken one is a finding and not the end of the command.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hmrkit.errors import DeviceError, HmrkitError, reason_of
from hmrkit.untrusted.limits import free_memory

if TYPE_CHECKING:
    import numpy as np

    from hmrkit.options import Options
    from hmrkit.types import Take

# Module -> package of what the chain imports on every machine; torch has a line of its own.
PACKAGES = {
    "numpy": "numpy", "scipy": "scipy", "PIL": "pillow", "safetensors": "safetensors", "av": "av", "rich": "rich",
    "matplotlib": "matplotlib", "trimesh": "trimesh",
}  # fmt: skip
OLDEST = (3, 10)
MEMORY = 1.5 * 2**30  # bytes; the chain's peak is 1.25 GiB for a short clip
DISK = 2**28
FRAMES, FPS = 8, 30  # of the clips
FAR_MM = 100.0  # joints' mean distance from those drawn, after alignment; a sound machine has 23 mm


@dataclass(frozen=True)
class Finding:
    """One line of the examination: what is well (`state` ok), absent or broken, and what to do (`todo`, "" if ok).

    `needed`: the main job, ``hmrkit run CLIP``, cannot do without it.
    """

    name: str
    state: Literal["ok", "missing", "broken"]
    facts: str
    todo: str
    needed: bool


class _AbsentError(Exception):
    """What a check looks for is not there."""


def examine(quick: bool = False, device: str = "auto") -> Iterator[Finding]:
    """Findings, one after another; without the run of the default chain on `device` if `quick`."""
    with tempfile.TemporaryDirectory() as folder:
        for check in _checks(Path(folder) / "clip.mp4"):
            yield _check(*check)
    if not quick:
        from hmrkit.options import Options

        yield from try_chain(Options(device=device))


def _checks(clip: Path) -> list[tuple[str, Callable[[], str], str, bool]]:
    """Name, work, what to do where it fails, and whether the main job needs it; `clip` is for codecs."""
    again = "install hmrkit and what it needs again: pip install --force-reinstall hmrkit"
    pip = "pip install --force-reinstall"
    room = f"free at least {DISK / 2**20:.0f} MiB or work in another folder (TMPDIR names that for temporary files)"
    return [
        ("python", _python, "install Python 3.10 or newer", True),
        ("packages", _packages, again, True),
        ("torch", _torch, f"{pip} torch", True),
        ("cuda", _cuda, "networks run on the CPU; for an NVIDIA GPU install its driver and torch for CUDA", False),
        ("onnxruntime", partial(_installed, "onnxruntime"), "networks take longer; pip install onnxruntime", False),
        ("openvino", partial(_installed, "openvino"), "for --engine openvino: pip install 'hmrkit[openvino]'", False),
        ("opengl", _opengl, "for --renderer gl: pip install 'hmrkit[gl]', a graphics driver, libEGL and libGL", False),
        ("encoder", partial(_encode, clip), f"videos become MPEG-4 part 2 or none; {pip} av", False),
        ("decoder pyav", partial(_decode, clip, "pyav"), f"{pip} av", True),
        ("decoder decord", partial(_decode, clip, "decord"), "PyAV decodes alone, slower; pip install decord", False),
        ("opencv, libGL", _opencv, "only for ultralytics: apt-get install libgl1 or use opencv-python-headless", False),
        ("fonts", _fonts, f"labels and plots cannot be drawn; {pip} pillow matplotlib", False),
        ("weights", partial(_weights, True), again, True),
        ("other weights", partial(_weights, False), "only for the methods that read them; get them again", False),
        ("bodies", _bodies, again, True),
        ("disk", _disk, room, True),
        ("memory", _memory, f"close programs until {MEMORY / 2**30:.1f} GiB are free, or use a larger machine", True),
    ]  # fmt: skip


def would_run(findings: list[Finding]) -> bool:
    """Whether everything that the main job needs is there."""
    return all(finding.state == "ok" or not finding.needed for finding in findings)


def _check(name: str, work: Callable[[], str], todo: str, needed: bool) -> Finding:
    try:
        return Finding(name, "ok", work(), "", needed)
    except (_AbsentError, ModuleNotFoundError, PackageNotFoundError) as error:
        return Finding(name, "missing", _line(error), todo, needed)
    except HmrkitError as error:
        return Finding(name, "broken", str(error), todo, needed)
    except Exception as error:  # a broken library fails in ways of its own
        return Finding(name, "broken", f"{type(error).__name__}: {_line(error)}", todo, needed)


def _line(error: Exception) -> str:
    return reason_of(error)[:300]


def _python() -> str:
    if sys.version_info < OLDEST:
        raise RuntimeError(f"Python {platform.python_version()}")
    return f"{platform.python_version()} on {platform.platform()}, {sys.executable}"


def _packages() -> str:
    for module in PACKAGES:
        importlib.import_module(module)
    return ", ".join(f"{package} {version(package)}" for package in PACKAGES.values())


def _installed(package: str) -> str:
    importlib.import_module(package)
    return version(package)


def _torch() -> str:
    import torch

    if not torch.ones(8, 8).matmul(torch.ones(8, 8)).eq(8).all():
        raise RuntimeError("a product of matrices is wrong")
    return f"{torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        build = f"torch for CUDA {torch.version.cuda}, no device" if torch.version.cuda else "torch is built for CPUs"
        if Path("/dev/nvidia0").exists():
            raise RuntimeError(f"there is a GPU that torch cannot use: {build}")
        raise _AbsentError(build)
    torch.ones(8, device="cuda").sum().item()
    device = torch.cuda.get_device_properties(0)
    return f"{device.name}, {device.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"


def _opengl() -> str:
    """What `--renderer gl` would draw by; llvmpipe and softpipe are no graphics cards but software."""
    from hmrkit.rendering.gl import open_gl

    installed = _installed("moderngl")
    try:
        with open_gl() as painter:
            return f"{painter.name}, moderngl {installed}"
    except DeviceError as error:
        raise _AbsentError(str(error)) from error


def _encode(path: Path) -> str:
    """Write frames that rise from black to white."""
    import av
    import numpy as np

    from hmrkit.rendering.writer import VideoWriter

    with VideoWriter(path, 64, 64, FPS) as writer:
        for level in np.linspace(0, 255, FRAMES).astype(np.uint8):
            writer.write(np.full((64, 64, 3), level, np.uint8))
    if "libx264" not in av.codecs_available:
        raise _AbsentError(f"PyAV {av.__version__} has no libx264")
    return f"libx264 in PyAV {av.__version__}"


def _decode(path: Path, decoder: Literal["pyav", "decord"]) -> str:
    """Read them back through hmrkit's own reader."""
    import numpy as np

    from hmrkit.video import probe, read_frames

    installed = version("av" if decoder == "pyav" else decoder)
    frames = np.concatenate([batch.frames for batch in read_frames(probe(path), batch_size=FRAMES, backend=decoder)])
    levels = frames.reshape(len(frames), -1).mean(1)
    if len(frames) != FRAMES or not (np.diff(levels) > 20).all():
        raise RuntimeError(f"of {FRAMES} frames from black to white came {len(frames)}, of levels {levels.round()}")
    return installed


def _opencv() -> str:
    if importlib.util.find_spec("cv2") is None:
        return "not needed: no OpenCV is installed"
    return f"OpenCV {importlib.import_module('cv2').__version__}"


def _fonts() -> str:
    from matplotlib import font_manager
    from PIL import ImageFont

    ImageFont.load_default(16).getlength("m")
    return Path(font_manager.findfont("DejaVu Sans", fallback_to_default=False)).name


def _needed_weights() -> set[str]:
    """Weights of the default chain."""
    from hmrkit.detectors import DETECTORS
    from hmrkit.keypoints import KEYPOINTS
    from hmrkit.lifters import LIFTERS
    from hmrkit.options import Options

    chosen = Options()
    members = (DETECTORS[chosen.detector], KEYPOINTS[chosen.keypoints], LIFTERS[chosen.lifter])
    own = ("body/hmrkit_body_neutral.npz", "calibration/hmrkit-body-0.safetensors", "pose_prior/gmm.safetensors")
    return {*own, *(name for member in members for name in member.weights)}


def _weights(needed: bool) -> str:
    from hmrkit.weights import available, find_weights, read_manifest, verify, weight_folders

    wanted = _needed_weights()
    if not needed:
        listed = {name for folder in weight_folders() for name in read_manifest(folder)}
        wanted = (listed | {entry["name"] for entry in available()}) - wanted
    wrong: list[str] = []
    size = 0
    for name in sorted(wanted):
        try:
            verify(name)
            size += find_weights(name).stat().st_size
        except HmrkitError as error:
            wrong.append(str(error))
    if wrong:
        raise RuntimeError("; ".join(wrong))
    return f"{len(wanted)} files, {size / 2**20:.0f} MiB, found and whole"


def _bodies() -> str:
    from hmrkit.body import load_body
    from hmrkit.body.files import GENDERS
    from hmrkit.weights import available

    free = [load_body(gender=gender).model_id for gender in GENDERS]
    own = [e["name"] for e in available() if e["name"].startswith("body/") and "hmrkit_body" not in e["name"]]
    return f"{', '.join(free)}; your own: {', '.join(own) or 'none (hmrkit weights import-body)'}"


def _disk() -> str:
    free = {place: shutil.disk_usage(place).free for place in (os.getcwd(), tempfile.gettempdir())}
    facts = ", ".join(f"{size / 2**30:.1f} GiB free in {place}" for place, size in free.items())
    if min(free.values()) < DISK or not os.access(os.getcwd(), os.W_OK):
        raise RuntimeError(facts if os.access(os.getcwd(), os.W_OK) else f"no file can be written in {os.getcwd()}")
    return facts


def _memory() -> str:
    free = free_memory()
    if free is None:
        return "not known on this system"
    if free < MEMORY:
        raise RuntimeError(f"{free / 2**30:.1f} GiB free")
    return f"{free / 2**30:.1f} GiB free"


def try_chain(options: Options) -> Iterator[Finding]:
    """The chain of these options, stage by stage, on a clip of a drawn body; the first that fails is the last."""
    from hmrkit.models import Models
    from hmrkit.pipeline import load_models, open_clip, run_stages, stages_of

    todo = "report it with the output of `hmrkit doctor --json`; --device cpu or --engine torch may run"
    with tempfile.TemporaryDirectory() as folder:
        drawn: list[np.ndarray] = []

        def draw() -> str:
            from hmrkit.synthetic.drawn_clip import draw_clip

            drawn.append(draw_clip(Path(folder), FRAMES, FPS))
            return f"{FRAMES} frames of a body"

        yield (first := _check("draw", draw, todo, True))
        if first.state != "ok":
            return
        models, takes = Models(options), [open_clip(folder, options)]

        def run(name: str) -> str:
            load_models(models, [name])
            started = time.perf_counter()
            takes.append(run_stages(takes[-1], [name], models))
            return f"{1000 * (time.perf_counter() - started) / FRAMES:.0f} ms a frame on {models.device}"

        for name in stages_of(options):
            yield (finding := _check(name, lambda name=name: run(name), todo, True))
            if finding.state != "ok":
                return
        yield _check("accuracy", lambda: accuracy(takes[-1], drawn[0]), todo, True)


def accuracy(take: Take, truth: np.ndarray) -> str:
    """How far the chain's joints are from those drawn. RuntimeError where nobody was found or they are far off."""
    from hmrkit.metrics import pa_mpjpe_mm

    if not take.calibrated:
        raise RuntimeError("nobody was found in images of a person")
    person = next(iter(take.calibrated))
    rows = take.track(person).frame_indices
    error = pa_mpjpe_mm(take.calibrated[person].joints_c, truth[rows])
    if not error < FAR_MM:
        raise RuntimeError(f"joints are {error:.0f} mm off the body that was drawn, wanted at most {FAR_MM:.0f}")
    return f"joints are {error:.0f} mm (PA-MPJPE) off the body that was drawn"
