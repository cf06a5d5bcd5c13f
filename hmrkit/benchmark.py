"""How fast the chain is on this machine: milliseconds a stage, frames per second, memory. Measured, never asserted."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.output import export_take, render_take
from hmrkit.pipeline import load_models, open_clip, run_stages, stages_of
from hmrkit.video import read_frames


def run_benchmark(video: str, options: Options, formats: Sequence[str], render: bool) -> dict[str, Any]:
    """Run a clip through the chain once, with the models loaded and warmed up before the clock starts.

    Returns plain values: `stages` name -> {"ms_per_frame", "ms_per_person_frame"}, `fps` of the stages together,
    `decode_fps` of decoding alone, `peak_rss_mib`, `peak_gpu_mib` (None without CUDA), and what was measured on.
    """
    import torch

    models = Models(options)
    stages = stages_of(options)
    load_models(models, stages)
    warm = open_clip(video, options)
    frames = len(warm.video.frame_indices)
    started = time.perf_counter()
    for _ in read_frames(warm.video, batch_size=options.batch_size):
        pass
    decode_seconds = time.perf_counter() - started
    short = open_clip(
        video, Options(**{**vars(options), "end": str(int(warm.video.frame_indices[min(8, frames - 1)]) + 1)})
    )
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
    scale = 1 if sys.platform == "darwin" else 1024
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
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20,
        "peak_gpu_mib": torch.cuda.max_memory_allocated(models.device) / 2**20 if cuda else None,
    }
