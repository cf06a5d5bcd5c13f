"""Retargeted motion: the excerpt that the repository carries, and retargeting of a made-up file."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hmrkit.errors import InputError
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_quaternion
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic import mocap as m

EXCERPT = Path(__file__).parents[1] / "data" / "motion_excerpt.npz"

_TRUNK = ["hip", "abdomen", "chest", "neck", "head"]
_ARM, _LEG = ["Collar", "Shldr", "ForeArm", "Hand"], ["Buttock", "Thigh", "Shin", "Foot"]
NAMES = _TRUNK + [side + part for limb in (_ARM, _LEG) for side in "rl" for part in limb]
PARENTS = [-1, 0, 1, 2, 3, 2, 5, 6, 7, 2, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19]


def made_up_file(path: Path, rotations: torch.Tensor) -> None:
    """A file in the data's layout whose rest pose is the body's (so that retargeting only renames)."""
    rest = m.rest_joints()
    joint = SMPL_24.index
    places = {"hip": rest[0] + [0, 0, 0], "abdomen": rest[joint["spine1"]], "chest": rest[joint["spine3"]]}
    places |= {"neck": rest[joint["neck"]], "head": rest[joint["head"]]}
    for s, side in (("l", "left"), ("r", "right")):
        for name, own in (
            ("Collar", "collar"), ("Shldr", "shoulder"), ("ForeArm", "elbow"), ("Hand", "wrist"),
            ("Thigh", "hip"), ("Shin", "knee"), ("Foot", "ankle"),
        ):  # fmt: skip
            places[s + name] = rest[joint[f"{side}_{own}"]]
        places[s + "Buttock"] = places[s + "Thigh"]
    offsets = np.stack([places[n] - (places[NAMES[p]] if p >= 0 else 0) for n, p in zip(NAMES, PARENTS, strict=True)])
    quaternion = matrix_to_quaternion(rotations)[..., [1, 2, 3, 0]].numpy()
    count = len(rotations)
    np.savez(
        path, names=np.array(NAMES), parents=np.array(PARENTS), offsets_cm=offsets.astype(np.float32) * 100,
        clips=np.array(["cmu_daz_01-09/07/a.bvh", "cmu_daz_01-09/02/b.bvh"]), starts=np.array([0, count // 2, count]),
        fps=np.int64(30), root_pos_cm=np.zeros((count, 3), np.float32),
        local_quat_xyzw_i16=np.round(quaternion * 32767).astype(np.int16),
    )  # fmt: skip


def test_a_file_with_the_bodys_rest_pose_keeps_its_rotations(tmp_path):
    rotations = axis_angle_to_matrix(0.4 * torch.randn(8, 21, 3, generator=torch.Generator().manual_seed(0)))
    # Heads that are turned over would be set upright.
    rotations[:, [NAMES.index("neck"), NAMES.index("head")]] = axis_angle_to_matrix(torch.full((8, 2, 3), 0.2))
    rotations[:, [NAMES.index("lButtock"), NAMES.index("rButtock")]] = torch.eye(3)
    # Whose legs and arms are straight now and then is not straightened.
    rotations[::2, [NAMES.index(name) for name in ("lShin", "rShin", "lForeArm", "rForeArm")]] = torch.eye(3)
    made_up_file(tmp_path / "file.npz", rotations)
    motion = m.load_motion(tmp_path / "file.npz", "all")
    local = torch.from_numpy(motion.local_rotations)
    for joint, name in (("pelvis", "hip"), ("left_knee", "lShin"), ("right_elbow", "rForeArm"), ("head", "head")):
        torch.testing.assert_close(local[:, SMPL_24.index[joint]], rotations[:, NAMES.index(name)], atol=3e-4, rtol=0)
    bend = local[:, SMPL_24.index["spine2"]] @ local[:, SMPL_24.index["spine3"]]
    torch.testing.assert_close(bend, rotations[:, NAMES.index("chest")], atol=3e-4, rtol=0)
    assert [m.load_motion(tmp_path / "file.npz", split).clips for split in ("train", "test")] == [
        ("cmu_daz_01-09/02/b.bvh",),
        ("cmu_daz_01-09/07/a.bvh",),
    ]


def test_a_head_that_the_capture_turned_over_is_at_rest(tmp_path):
    rotations = torch.eye(3).repeat(8, 21, 1, 1)
    rotations[:4, NAMES.index("head")] = axis_angle_to_matrix(torch.tensor([2.6, 0.0, 0.0]))
    rotations[4:, NAMES.index("head")] = axis_angle_to_matrix(torch.tensor([0.8, 0.0, 0.0]))
    made_up_file(tmp_path / "file.npz", rotations)
    local = torch.from_numpy(m.load_motion(tmp_path / "file.npz", "all").local_rotations)[:, SMPL_24.index["head"]]
    torch.testing.assert_close(local[:4], torch.eye(3).expand(4, 3, 3), atol=3e-4, rtol=0)
    torch.testing.assert_close(local[4:], rotations[4:, NAMES.index("head")], atol=3e-4, rtol=0)


def test_excerpt_is_held_out_and_upright(tmp_path):
    motion = m.load_motion(EXCERPT, "test")
    assert len(motion) == len(m.load_motion(EXCERPT, "all")) == motion.starts[-1] > 200
    local = torch.from_numpy(motion.local_rotations)
    torch.testing.assert_close(local @ local.mT, torch.eye(3).expand_as(local), atol=1e-5, rtol=0)
    world = m.world_from_local(local)
    # People walk and fight on their feet: the chest's up is the world's.
    assert world[:, SMPL_24.index["spine3"], 1, 1].median() > 0.8
    m.save_motion(motion, tmp_path / "again.npz")
    again = m.load_motion(tmp_path / "again.npz", "all")
    np.testing.assert_allclose(again.local_rotations, motion.local_rotations, atol=2e-4)
    assert again.clips == motion.clips


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", poses=np.zeros(3))
    (tmp_path / "text.npz").write_text("no zip")
    for name in ("other.npz", "text.npz", "absent.npz"):
        with pytest.raises(InputError, match="wanted"):
            m.load_motion(tmp_path / name)
