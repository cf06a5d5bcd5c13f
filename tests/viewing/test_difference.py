"""`hmrkit compare`: two takes of one clip, person by person and joint by joint."""

import json
from dataclasses import replace

import numpy as np
import pytest
from in_process import hmrkit
from made_pairs import pair  # noqa: F401
from made_takes import models, take  # noqa: F401
from PIL import Image

from hmrkit.errors import InputError
from hmrkit.take import save_take
from hmrkit.viewing.difference import differences, write_strip


def test_people_are_matched_and_joints_measured(pair, models):  # noqa: F811
    found, alone = differences(pair, [models, models])
    assert alone == [[], []]
    assert {(d.first.track_id, d.second.track_id) for d in found} == {(1, 5), (2, 3)}
    for difference in found:
        facts = difference.as_json()
        assert facts["frames"] == len(difference.first.frame_indices)
        moved = facts["first"] == 2
        assert facts["aligned_mm"]["left_wrist"] == pytest.approx(30 if moved else 0, abs=0.01)
        assert facts["aligned_mm"]["right_wrist"] == pytest.approx(0, abs=0.01)
        assert facts["placed_mm"]["right_wrist"] == pytest.approx(50, abs=0.01)
        assert facts["placed_mm"]["left_wrist"] == pytest.approx(np.hypot(50, 30) if moved else 50, abs=0.01)


def test_the_command_prints_a_table_and_writes_curves(pair, tmp_path):  # noqa: F811
    names = [tmp_path / "a.npz", tmp_path / "b.npz"]
    alone = replace(pair[1], tracks=pair[1].tracks[:1])  # person 3 alone, who is 2 in the first take
    for take_, path in zip((pair[0], alone), names, strict=True):
        save_take(take_, path)
    result = hmrkit("compare", *names, "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "nobody in the other take is where these people are: 1" in result.stderr
    (row,) = [line for line in result.stdout.splitlines() if "left_wrist" in line]
    assert "30.0 / 58.3" in row
    header, *rows = (tmp_path / "out/person_02_difference.csv").read_text().splitlines()
    assert header.startswith("frame,time_s,aligned_mm,placed_mm,left_arm_mm")
    assert [line.split(",")[0] for line in rows] == ["16", "17", "18"]
    assert (tmp_path / "out/person_02_difference.png").exists()
    facts = json.loads(hmrkit("compare", *names, "--json").stdout)
    assert facts["people"][0]["aligned_mm"]["mean"] == pytest.approx(30 / 24, abs=0.01)
    assert facts["unmatched"] == [[1], []]
    assert "--out" in hmrkit("compare", *names, "--strip").stderr


def test_takes_of_two_clips_are_refused(pair, models):  # noqa: F811
    other = replace(pair[1], video=replace(pair[1].video, sha256="11"))
    with pytest.raises(InputError, match="two takes of one clip"):
        differences((pair[0], other), [models, models])


def test_the_strip_shows_both_takes_over_the_footage(pair, models, tmp_path):  # noqa: F811
    frames = tmp_path / "clip"
    frames.mkdir()
    for number in range(20):
        Image.new("RGB", (640, 480), (9, 90, 9)).save(frames / f"{number:03d}.png")
    takes = [replace(t, video=replace(t.video, path=str(frames))) for t in pair]
    found, _ = differences(takes, [models, models])
    path = write_strip(takes, [models, models], found, ("first", "second"), tmp_path / "strip.png")
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert image.shape[1] > 3 * 300
    footage = np.abs(image - [9, 90, 9]).sum(-1) < 30
    assert 0.3 < footage.mean() < 0.95
