"""Joints as CSV, JSON and TRC: the scene's own numbers, in its unit and on its clock."""

import csv
import json

import numpy as np

from hmrkit.datasets.trc import read_trc
from hmrkit.exporters.joints import CsvExporter, JsonExporter
from hmrkit.exporters.trc import TrcExporter


def test_csv_has_every_joint_of_every_frame(scene_of, tmp_path):
    scene, options = scene_of(unit="cm", up="z", first_frame=1001)
    for path, character in zip(CsvExporter().write(scene, tmp_path, options), scene.characters, strict=True):
        comment, *lines = path.read_text().splitlines()
        assert comment.startswith("# hmrkit: some clip.mp4, 30000/1001 frames per second; centimetres")
        rows = list(csv.DictReader(lines))
        assert [int(row["frame"]) for row in rows] == character.frames.tolist()
        assert [row["visible"] == "1" for row in rows] == character.visible.tolist()
        times = [float(row["time_s"]) for row in rows]
        np.testing.assert_allclose(times, (character.frames - 1001) * 1001 / 30000, atol=1e-6)
        wrist = [[float(row[f"left_wrist_{axis}"]) for axis in "xyz"] for row in rows]
        np.testing.assert_allclose(wrist, character.joints[:, character.joint_names.index("left_wrist")], atol=2e-3)


def test_json_holds_the_whole_clip(scene_of, tmp_path):
    scene, options = scene_of()
    (path,) = JsonExporter().write(scene, tmp_path, options)
    value = json.loads(path.read_text())
    assert value["fps"] == [30000, 1001]
    assert [person["name"] for person in value["people"]] == ["person_01", "person_02"]
    for person, character in zip(value["people"], scene.characters, strict=True):
        np.testing.assert_allclose(person["joints"], character.joints, atol=1e-5)
        assert person["visible"] == character.visible.tolist()
    assert value["people"][0]["visible"] == [True, True, True, False, True, True]
    assert value["metadata"]["source"] == "some clip.mp4"


def test_trc_is_read_back_by_the_reader_of_recordings(scene_of, tmp_path):
    scene, options = scene_of(unit="cm")
    for path, character in zip(TrcExporter().write(scene, tmp_path, options), scene.characters, strict=True):
        back = read_trc(path)
        assert back.names == character.joint_names
        np.testing.assert_allclose(back.rate, 30000 / 1001, rtol=1e-6)
        np.testing.assert_allclose(back.times, character.frames / float(scene.fps), atol=1e-5)
        assert np.isnan(back.positions[~character.visible]).all()
        seen = back.positions[character.visible]
        np.testing.assert_allclose(seen, character.joints[character.visible] / 100, atol=1e-6)
