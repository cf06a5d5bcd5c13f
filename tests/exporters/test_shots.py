"""Clips with cuts: a scene for each shot, by one rule of names for all formats."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hmrkit.errors import UsageError
from hmrkit.exporters.writing import export_take
from hmrkit.scene import ExportOptions


@pytest.fixture
def cut(take):
    """Person 1 is in the first shot, person 2 in the second, nobody in the third."""
    return replace(take, video=replace(take.video, cuts=(16, 19)))


def names(paths):
    return sorted(path.name for path in paths)


def test_each_shot_is_a_scene_in_formats_of_every_kind(cut, models, tmp_path):
    formats = ["npz", "obj", "fbx", "bvh", "glb", "csv", "json", "trc"]
    whole = export_take(cut, tmp_path / "whole", formats, models, lambda *_: None)
    shots = export_take(cut, tmp_path / "shots", formats, models, lambda *_: None, ExportOptions(per_shot=True))
    assert all("_shot_0" in path.name for path in shots)
    assert not any("_shot_" in path.name for path in whole)
    a_person = names(path for path in whole if path.name.startswith("person_"))
    assert names(path for path in shots if path.name.startswith("person_")) == [
        name.replace("person_01", "person_01_shot_01").replace("person_02", "person_02_shot_02") for name in a_person
    ]
    a_clip = names(path for path in whole if not path.name.startswith("person_"))
    assert len([path for path in shots if not path.name.startswith("person_")]) == 2 * len(a_clip)
    assert {"some_clip_shot_01.fbx", "some_clip_shot_02.fbx"} <= set(names(shots))


def test_a_shot_has_its_own_people_and_frames(cut, models, tmp_path):
    export_take(cut, tmp_path, ["json", "npz"], models, lambda *_: None, ExportOptions(per_shot=True))
    first, second = (json.loads((tmp_path / f"joints_shot_0{k}.json").read_text()) for k in (1, 2))
    assert [len(shot["people"]) for shot in (first, second)] == [1, 1]
    export_take(cut, tmp_path, ["npz"], models, lambda *_: None)
    with np.load(tmp_path / "person_02.npz") as whole, np.load(tmp_path / "person_02_shot_02.npz") as shot:
        for name in ("poses", "trans", "frames"):
            np.testing.assert_array_equal(shot[name], whole[name])


def test_people_are_chosen_as_ever_and_a_clip_without_cuts_is_one_scene(cut, take, models, tmp_path):
    made = export_take(cut, tmp_path, ["json"], models, lambda *_: None, ExportOptions(per_shot=True, people=(2,)))
    assert names(made) == ["joints_shot_02.json"]
    with pytest.raises(UsageError, match="no person 7"):
        export_take(cut, tmp_path, ["json"], models, lambda *_: None, ExportOptions(per_shot=True, people=(7,)))
    made = export_take(take, tmp_path, ["json"], models, lambda *_: None, ExportOptions(per_shot=True))
    assert names(made) == ["joints.json"]
