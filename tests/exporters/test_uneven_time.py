"""Clips of variable rate: what is written follows the footage."""

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from made_takes import RATE

from hmrkit.exporters.writing import export_into
from hmrkit.rendering.writer import open_writer
from hmrkit.scene import scene_name


def test_rows_have_their_times_or_lie_on_the_clock_and_one_warning_says_which(take, models, tmp_path, caplog):
    frames = take.video.frame_indices
    times = np.where(frames < 12, frames, 2 * frames - 12) / float(RATE)
    uneven = replace(take, video=replace(take.video, frame_times=times))
    export_into(uneven, tmp_path, ["json", "npz"], models, lambda *_: None)
    (warning,) = caplog.messages
    assert "json resampled" in warning
    assert "npz with each frame's own time" in warning
    with np.load(tmp_path / "person_01.npz") as arrays:
        np.testing.assert_allclose(arrays["frame_times"], times[np.array([10, 11, 12, 14, 15]) - 10])
        places = np.interp(np.arange(60) / 60, arrays["frame_times"], arrays["trans"][:, 0])
    (path,) = set(tmp_path.glob("*.json")) - {tmp_path / "manifest.json"}
    facts = json.loads(path.read_text())
    assert facts["fps"] != [30000, 1001]
    assert np.isfinite(places).all()


def test_a_video_is_written_at_its_frames_times(tmp_path):
    times = {4: 1.0, 5: 1.1, 7: 1.5}
    with open_writer(tmp_path / "a%d:.mp4", 32, 32, 10, times=times) as writer:
        for number in times:
            writer.write(np.full((32, 32, 3), 20 * number, np.uint8), number)
    with av.open(f"file:{tmp_path / 'a%d:.mp4'}") as container:
        shown = [float(frame.time) for frame in container.decode(video=0)]
    np.testing.assert_allclose(np.array(shown) - shown[0], [0, 0.1, 0.5], atol=1e-4)


def test_scene_names_are_legal_and_distinct():
    names = ["some clip", "a.b", "a b", "a:b", "人", "犬", "007", "it's", "..", "x" * 240, "x" * 239 + "y"]
    made = [scene_name(Path(name + ".mp4")) for name in names]
    assert made[0] == "some_clip"
    assert len(set(made)) == len(made)
    assert all(name.isascii() and name.isidentifier() and len(name) < 100 for name in made)
