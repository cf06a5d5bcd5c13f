"""How fast the chain is on this machine: milliseconds a stage, frames per second, memory. Measured, never asserted."""

from __future__ import annotations

import math
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.exporters.writing import export_take
from hmrkit.models import Models
from hmrkit.options import OPTIONS, Options
from hmrkit.output import render_take
from hmrkit.pipeline import STAGES, load_models, open_clip, run_stages, stages_of
from hmrkit.rendering.painting import check_renderer
from hmrkit.video import read_frames


def benchmark_calibration(frames: int, params_only: bool = False) -> dict[str, Any]:
    """Time target, refit and final vertices of one made-up person of `frames` frames (not decoding or networks).

    Returns `seconds` by part, `total_seconds` and `frames_per_second` of target and refit, `peak_rss_mib`, `threads`.
    """
    import torch

    from hmrkit.body import load_body
    from hmrkit.calibration import load_calibration
    from hmrkit.calibration.target import build_target
    from hmrkit.calibration.track import calibrated_vertices, mesh_joints, refit
    from hmrkit.camera import assume_camera, project
    from hmrkit.geometry import axis_angle_to_matrix
    from hmrkit.skeletons import H36M_17, SMPL_24
    from hmrkit.types import BodyParams, Keypoints, LiftedPose

    body = load_body()
    weights, camera = load_calibration(body), assume_camera(1280, 720)
    swing = torch.sin(torch.arange(frames)[:, None, None] / 9 + torch.arange(72).view(24, 3))
    upright = axis_angle_to_matrix(torch.tensor([math.pi, 0.0, 0.0]))
    bodies = []
    for degrees in (18, 22):  # the mesh stream's, and the one that the pose stream sees
        local = axis_angle_to_matrix(math.radians(degrees) * swing).numpy()
        place, betas = np.tile(np.array([0, 0, 5], np.float32), (frames, 1)), np.zeros(10, np.float32)
        bodies.append(BodyParams(upright.numpy() @ local[:, 0], local[:, 1:], betas, place, "neutral", body.model_id))
    params = bodies[0]
    truth, _ = mesh_joints(body, bodies[1])
    names = {"thorax": "neck", "spine": "spine2", "nose": "head", "head_top": "head"}
    pose = truth[:, SMPL_24.indices(*(names.get(name, name) for name in H36M_17.joints))]
    pixels = np.concatenate([project(camera, pose), np.ones((frames, 17, 1))], -1).astype(np.float32)
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    joints, offsets = mesh_joints(body, params)
    lifted, keypoints = LiftedPose(pose - pose[:, :1], H36M_17.name), Keypoints(pixels, None, H36M_17.name)
    target = build_target(joints, lifted, keypoints, camera, np.arange(frames) / 30.0, None, offsets)
    seconds["target"] = time.perf_counter() - started
    started = time.perf_counter()
    refit(body, params, target, weights, params_only=params_only)
    seconds["refit"] = time.perf_counter() - started
    total = sum(seconds.values())
    if not params_only:
        started = time.perf_counter()
        for start in range(0, frames, 64):
            calibrated_vertices(body, params, target, weights, slice(start, start + 64))
        seconds["vertices"] = time.perf_counter() - started
    return {
        "frames": frames, "threads": torch.get_num_threads(), "seconds": seconds, "total_seconds": total,
        "frames_per_second": frames / total, "peak_rss_mib": _peak_rss_mib(),
    }  # fmt: skip


def _peak_rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**20


def compare_engines(video: str, options: Options, engine: str, rounds: int = 3) -> dict[str, Any]:
    """Time the stages that look at pixels with the options' engine and with another one, alternately.

    Returns ``engines`` (both names), ``frames`` and ``stages``, name -> {"ms_per_frame", "against_ms_per_frame"
    (medians), "ratio", "spread"}: how many times as long the other one takes (median, least and most of the rounds).
    """
    both = Models(options), Models(replace(options, engine=engine))
    take, found = open_clip(video, options), {}
    for models in both:
        load_models(models, stages_of(options))
    for name in stages_of(options):
        if name in OPTIONS["engine"].also:
            seconds: list[list[float]] = [[], []]
            for k in range(2 * rounds + 2):
                started = time.perf_counter()
                STAGES[name].run(take, both[k % 2], lambda *_: None)
                seconds[k % 2].append(time.perf_counter() - started)
            own, other = np.array(seconds)[:, 1:] * 1e3 / len(take.video.frame_indices)  # the first round warms up
            found[name] = {
                "ms_per_frame": float(np.median(own)), "against_ms_per_frame": float(np.median(other)),
                "ratio": float(np.median(other / own)), "spread": [float(f(other / own)) for f in (np.min, np.max)],
            }  # fmt: skip
        take = run_stages(take, [name], both[0])
    return {"engines": [options.engine, engine], "frames": len(take.video.frame_indices), "stages": found}


def run_benchmark(video: str, options: Options, formats: Sequence[str], render: bool) -> dict[str, Any]:
    """Run a clip through the chain once, with the models loaded and warmed up before the clock starts.

    Returns plain values: `stages` name -> {"ms_per_frame", "ms_per_person_frame"}, `fps` of the stages together,
    `decode_fps` of decoding alone, `peak_rss_mib`, `peak_gpu_mib` (None without CUDA), and what was measured on.
    """
    import torch

    models = Models(options)
    stages = stages_of(options)
    load_models(models, stages)
    if render:
        check_renderer(options.renderer)
    warm = open_clip(video, options)
    frames = len(warm.video.frame_indices)
    started = time.perf_counter()
    for _ in read_frames(warm.video, batch_size=models.batch_size):
        pass
    decode_seconds = time.perf_counter() - started
    short = open_clip(video, replace(options, end=str(int(warm.video.frame_indices[min(8, frames - 1)]) + 1)))
    run_stages(short, stages, models)

    seconds: dict[str, float] = {}
    take = warm
    for name in stages:
        started = time.perf_counter()
        take = run_stages(take, [name], models)
        if models.device.type == "cuda":
            torch.cuda.synchronize()
        seconds[name] = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        export_take(take, Path(folder), formats, models, lambda *_: None)
        seconds["export"] = time.perf_counter() - started
        if render:
            started = time.perf_counter()
            render_take(take, Path(folder) / "overlay.mp4", Path(folder) / "sheet.png", models, lambda *_: None)
            seconds["render"] = time.perf_counter() - started
    person_frames = sum(len(t.frame_indices) for t in take.tracks)
    cuda = models.device.type == "cuda"
    return {
        "video": video,
        "size": f"{take.video.width}x{take.video.height}",
        "frames": frames,
        "people": len(take.tracks),
        "person_frames": person_frames,
        "device": torch.cuda.get_device_name(models.device) if cuda else f"cpu, {torch.get_num_threads()} threads",
        "stages": {
            name: {
                "ms_per_frame": 1e3 * s / frames,
                "ms_per_person_frame": 1e3 * s / person_frames if person_frames else None,
            }
            for name, s in seconds.items()
        },
        "fps": frames / sum(seconds.values()),
        "fps_without_output": frames / sum(seconds[name] for name in stages),
        "decode_fps": frames / decode_seconds,
        "peak_rss_mib": _peak_rss_mib(),
        "peak_gpu_mib": torch.cuda.max_memory_allocated(models.device) / 2**20 if cuda else None,
    }
