"""TRC files as several programs write them, and what their markers' names stand for."""

import numpy as np
import pytest

from hmrkit.datasets.trc import joint_of_marker, joints_from_markers, read_trc
from hmrkit.errors import InputError, UsageError

HEAD = """PathFileType  4\t(X/Y/Z) C:\\data\\trial.trc
DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames
100.0\t100.0\t3\t2\tmm\t100.0\t1\t3
Frame#\tTime\tL_FLE\t\t\tL_FME\t\t
\t\tX1\tY1\tZ1\tX2\tY2\tZ2
"""


def test_units_gaps_blank_lines_and_short_rows(tmp_path):
    path = tmp_path / "trial.trc"
    path.write_text(
        HEAD + "\n1\t0.00\t100\t200\t300\t-100\t0\t300\n2\t0.01\t0\t0\t0\t\t\t\n3\t0.02\tnan\tnan\tnan\t1\t2\t3\t\n"
    )
    tracks = read_trc(path)
    assert tracks.names == ("L_FLE", "L_FME")
    assert tracks.rate == 100
    np.testing.assert_allclose(tracks.times, [0, 0.01, 0.02])
    np.testing.assert_allclose(tracks.positions[0], [[0.1, 0.2, 0.3], [-0.1, 0, 0.3]])
    assert np.isnan(tracks.positions[1]).all()
    assert np.isnan(tracks.positions[2, 0]).all()
    np.testing.assert_allclose(tracks.positions[2, 1], [0.001, 0.002, 0.003])


def test_a_joint_lies_between_its_outer_and_inner_marker(tmp_path):
    path = tmp_path / "trial.trc"
    path.write_text(
        HEAD + "1\t0.00\t100\t200\t300\t-100\t0\t300\n2\t0.01\t0\t0\t0\t1\t2\t3\n3\t0.02\t2\t4\t6\t4\t6\t8\n"
    )
    names, joints = joints_from_markers(read_trc(path))
    assert names == ("left_knee",)
    np.testing.assert_allclose(joints[:, 0], [[0, 0.1, 0.3], [np.nan] * 3, [0.003, 0.005, 0.007]])
    assert joints_from_markers(read_trc(path), {"L_FLE": "left_hip"})[0] == ("left_knee", "left_hip")
    with pytest.raises(UsageError, match="there is no joint 'left_hipp'"):
        joints_from_markers(read_trc(path), {"L_FLE": "left_hipp"})
    with pytest.raises(InputError, match="'LHIP' is not in the TRC file; it has L_FLE, L_FME"):
        joints_from_markers(read_trc(path), {"LHIP": "left_hip"})


@pytest.mark.parametrize(
    ("marker", "joint"),
    [
        ("LKnee", "left_knee"), ("RElbow", "right_elbow"), ("left_wrist", "left_wrist"), ("knee_l", "left_knee"),
        ("Anna:RAnkle", "right_ankle"), ("R.Shoulder", "right_shoulder"), ("LHJC", "left_hip"),
        ("RHJC_study", "right_hip"), ("LBigToe", "left_big_toe"), ("RSmallToe", "right_small_toe"),
        ("LHeel", "left_heel"), ("REar", "right_ear"), ("LEye", "left_eye"), ("LElbow", "left_elbow"),
        ("Nose", "nose"), ("Head", "head_top"), ("Neck", "mid_shoulder"), ("Hip", "mid_hip"),
        ("shoulderRight", "right_shoulder"), ("right_foot_index", "right_foot_index"),
        # Skin markers are not joints, and a hand's are none of the body's.
        ("LASI", None), ("r.ASIS_study", None), ("C7", None), ("RThumb", None), ("L_FLE", None), ("RKNE", None),
    ],
)  # fmt: skip
def test_marker_names(marker, joint):
    assert joint_of_marker(marker) == joint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Frame,Time\n1,0\n", "expected a TRC file"),
        (HEAD.replace("\tmm\t", "\tfurlong\t") + "1\t0\t1\t1\t1\t1\t1\t1\n", "Units"),
        (HEAD.replace("3\t2\tmm", "3\t5\tmm") + "1\t0\t1\t1\t1\t1\t1\t1\n", "NumMarkers says 5, line 4 names 2"),
        (HEAD + "1\t0\tone\t1\t1\t1\t1\t1\n", "expected numbers"),
        (HEAD + "1\t0.1\t1\t1\t1\t1\t1\t1\n2\t0.0\t1\t1\t1\t1\t1\t1\n", "rising time"),
        (HEAD + "\n", "rising time"),
    ],
)
def test_files_that_are_not_right_say_so(tmp_path, text, message):
    path = tmp_path / "trial.trc"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_trc(path)
