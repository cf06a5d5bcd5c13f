"""How a run's time grows: the clips are those that the rows name, and the plot is one."""

import pytest
from films import write_film
from PIL import Image

from hmrkit.benchmark import growth
from hmrkit.options import Options
from hmrkit.pipeline import open_clip


def _facts(video, options, formats, render):
    """What `run_benchmark` gives, without running the clip."""
    info = open_clip(video, options).video
    stages = {"detect": {"ms_per_frame": 2.0}, "pose": {"ms_per_frame": 3.0}}
    count = len(info.frame_indices)
    return {
        "frames": count, "people": 1, "person_frames": count, "size": f"{info.width}x{info.height}", "stages": stages,
    }  # fmt: skip


def test_each_row_is_a_clip_of_its_own_and_the_whole_one_is_in_all_curves(monkeypatch, tmp_path):
    for name, parts in (("FRAMES", (0.5, 1.0)), ("COPIES", (1, 2)), ("SIDES", (0.5, 1.0)), ("run_benchmark", _facts)):
        monkeypatch.setattr(growth, name, parts)
    rows = growth.measure_growth(str(write_film(tmp_path / "walk.mp4")), Options())
    assert [row["varied"] for row in rows] == ["frames", "frames", "people", "people", "size", "size"]
    whole = rows[1]
    width, height = map(int, whole["size"].split("x"))
    assert [row["size"] for row in rows[2:5]] == [whole["size"], f"{2 * width}x{height}", f"{width // 2}x{height // 2}"]
    assert [row["frames"] for row in rows] == [6, 12, 12, 12, 12, 12]
    assert [row["value"] for row in rows[:2]] == [6, 12]
    assert rows[5]["value"] == pytest.approx(4 * rows[4]["value"], rel=0.05)
    assert rows[2]["stages"] == rows[5]["stages"] == whole["stages"]
    assert all(row["ms"] == pytest.approx(row["ms_per_frame"] * row["frames"]) for row in rows)
    growth.plot_growth(rows, tmp_path / "growth.png")
    with Image.open(tmp_path / "growth.png") as plot:
        assert plot.width > 1000
