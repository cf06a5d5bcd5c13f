"""`.smpl` files, read back by smplcodec."""

import numpy as np
import pytest
import torch

from hmrkit.exporters import load_exporter
from hmrkit.geometry import axis_angle_to_matrix

codec = pytest.importorskip("smplcodec")


def test_a_smpl_file_is_the_scene_whichever_way_is_up(models, scene_of, tmp_path):
    scene, options = scene_of(space="world", up="z", unit="cm")
    upright, _ = scene_of(space="world")
    made = load_exporter("smpl").write(scene, tmp_path, options)
    for path, character in zip(made, upright.characters, strict=True):
        data = codec.SMPLCodec.from_file(path)
        assert (data.frame_count, data.smpl_version) == (len(character), codec.SMPLVersion.SMPL)
        assert data.frame_rate == pytest.approx(30000 / 1001)
        rotations = axis_angle_to_matrix(torch.from_numpy(data.full_pose).float())
        mesh = models.body.joints_only(rotations[:, 0], rotations[:, 1:], data.shape_parameters, data.body_translation)
        np.testing.assert_allclose(mesh.joints.numpy(), character.posed_joints(), atol=2e-5)
