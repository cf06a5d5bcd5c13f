"""SPIN-style files, clips and stills, and SPIN's result files scored on them."""

import json

import numpy as np
import pytest
from made_datasets import motion, write_images
from made_smpl import make_smpl
from typer.testing import CliRunner

from hmrkit.cli.app import app
from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.errors import InputError
from hmrkit.skeletons import LSP_14, SPIN_24


def write_clips(root, images=True):
    """3dpw_test.npz: two people in one clip, one after the other, then another clip with gaps of two frames."""
    rows = {key: [] for key in ("imgname", "center", "scale", "pose", "shape", "gender")}
    people = [("downtown_bus_00", range(1, 6), "m"), ("downtown_bus_00", range(0, 4), "f"),
              ("flat_guitar_01", range(0, 12, 2), "m")]  # fmt: skip
    for seed, (clip, frames, gender) in enumerate(people):
        pose, _, betas = motion(len(frames), seed)
        for k, frame in enumerate(frames):
            rows["imgname"].append(f"imageFiles/{clip}/image_{frame:05d}.jpg")
            rows["center"].append([50.0 + frame, 40.0])
            rows["scale"].append(0.3)
            rows["pose"].append(pose[k])
            rows["shape"].append(betas)
            rows["gender"].append(gender)
    np.savez(root / "3dpw_test.npz", **{key: np.array(values) for key, values in rows.items()})
    if images:
        for clip in ("downtown_bus_00", "flat_guitar_01"):
            write_images(root / "imageFiles" / clip, 12, (100, 80))
    return root / "3dpw_test.npz"


def test_rows_are_people_in_clips(tmp_path):
    dataset = load_dataset("npz", write_clips(tmp_path))
    dataset.check()
    assert dataset.default_protocol == "spin"
    bus, guitar = dataset.sequences()
    assert (bus.name, guitar.name) == ("imageFiles_downtown_bus_00_image", "imageFiles_flat_guitar_01_image")
    assert [t.frame_indices.tolist() for t in bus.people] == [[1, 2, 3, 4, 5], [0, 1, 2, 3]]
    assert [path.name for path in bus.frames] == [f"image_{k:05d}.jpg" for k in range(6)]
    assert [t.body.gender for t in bus.people] == ["male", "female"]
    assert not bus.stills
    assert guitar.fps == 15  # every second frame of 30
    box = bus.people[0].boxes_xyxy[0]
    np.testing.assert_allclose(box, [51 - 25, 40 - 25, 51 + 25, 40 + 25])  # SPIN's crop of 60 px is 1.2 times the box


def test_rows_are_people_in_stills(tmp_path):
    part, places = np.zeros((3, 24, 3)), np.zeros((3, 24, 4))
    part[:, 5] = [7, 8, 1]
    places[0, 9] = [0.1, 0.2, 0.3, 1]
    names = np.array(["a/2.jpg", "a/10.jpg", "a/2.jpg"])
    np.savez(tmp_path / "lsp_dataset_test.npz", imgname=names, center=np.ones((3, 2)), scale=np.ones(3), part=part,
             S=places)  # fmt: skip
    (sequence,) = load_dataset("npz", tmp_path / "lsp_dataset_test.npz").sequences()
    assert sequence.stills
    assert sequence.frames is None  # the images are not there
    first, second = sequence.people
    assert (first.frame_indices.tolist(), second.frame_indices.tolist()) == ([0, 1], [0])
    assert first.skeleton is SPIN_24
    assert first.body is None
    np.testing.assert_allclose(first.joints_c[0, 9], [0.1, 0.2, 0.3], rtol=1e-6)
    assert np.isnan(first.joints_c[0, 8]).all()
    assert first.keypoints_2d[1, 5].tolist() == [7, 8, 2]
    assert first.keypoints_2d[1, 6, 2] == 0


def test_spin_s_result_file_is_scored_row_by_row(tmp_path):
    """Its joints are pelvis-relative, in LSP's order; one row is 14 mm off at one joint, which is 1 mm on average."""
    from hmrkit.body import load_body
    from hmrkit.evaluation.bodies import Bodies, posed_truth

    path, smpl = write_clips(tmp_path, images=False), make_smpl(tmp_path / "smpl")
    bodies = Bodies(load_body(smpl / "SMPL_NEUTRAL.npz"), smpl)
    found = []
    for sequence in load_dataset("npz", path).sequences():
        for truth in sequence.people:
            body = bodies.true("smpl", truth.body.gender)
            vertices, joints, _ = posed_truth(body, truth.body, np.arange(len(truth.valid)), None)
            read = bodies.points(body, vertices, joints, (*LSP_14.joints, "pelvis"), "regressed")
            found.append(read[:, :14] - read[:, 14:])
    joints = np.concatenate(found)
    joints[3, 0, 1] += 0.014
    np.savez(tmp_path / "result.npz", pred_joints=joints, pose=np.zeros((15, 72)), betas=np.zeros((15, 10)),
             camera=np.zeros((15, 3)))  # fmt: skip

    def run(name):
        arguments = [
            *("eval", "--dataset", "npz", "--data", str(path), "--predictions", str(tmp_path / name), "--json"),
            *("--smpl", str(smpl), "--body", str(smpl / "SMPL_NEUTRAL.npz"), "--out", str(tmp_path / "out")),
        ]
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    (row,) = json.loads(run("result.npz").stdout)["methods"]
    assert row["frames"] == 15
    assert row["figures"]["mpjpe_mm"]["mean"] == pytest.approx(1 / 15, abs=1e-3)
    values = np.load(tmp_path / "out" / "result" / "imageFiles_downtown_bus_00_image.npz")["0/mpjpe_mm"]
    np.testing.assert_allclose(values, [0, 0, 0, 1, 0], atol=1e-3)
    np.savez(tmp_path / "short.npz", pred_joints=joints[:7])
    assert "was it made for another dataset" in run("short.npz").stderr


def test_other_files_are_named(tmp_path):
    np.savez(tmp_path / "x.npz", imgname=np.array(["a"]))
    with pytest.raises(InputError, match="lacks center, scale"):
        load_dataset("npz", tmp_path / "x.npz").check()
    with pytest.raises(InputError, match=r"lacks y\.npz"):
        load_dataset("npz", tmp_path / "y.npz").check()
    with pytest.raises(InputError, match="cannot read it"):
        (tmp_path / "z.npz").write_text("no")
        load_dataset("npz", tmp_path / "z.npz", DatasetOptions()).check()
