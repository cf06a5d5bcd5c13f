"""SMPL's files as they are in circulation: we pose them as smplx does, which reads the very same file."""

import contextlib
import io
import sys
import types

import numpy as np
import pytest
import scipy.sparse
import torch
from made_bodies import same_surface, write_historical

from hmrkit.body import load_body
from hmrkit.body.files import gender_in_name
from hmrkit.geometry import axis_angle_to_matrix

FILES = {
    "basicModel_f_lbs_10_207_0_v1.0.0.pkl": ("1.0.0", "female"),
    "basicmodel_m_lbs_10_207_0_v1.1.0.pkl": ("1.1.0", "male"),
    "SMPL_NEUTRAL.pkl": ("1.0.0", "neutral"),
}


@pytest.fixture
def classes(monkeypatch):
    """Stand-ins under the old names, which do for smplx what chumpy's and scipy's do; hmrkit makes none of them."""

    def array(self, dtype=None, copy=None):
        value = self.x if hasattr(self, "x") else self.a.x.ravel()[self.idxs].reshape(self.preferred_shape)
        return np.asarray(value, dtype)

    def dense(self):
        return scipy.sparse.csc_matrix((self.data, self.indices, self.indptr), shape=self._shape).todense()

    chumpy = {"__array__": array, "shape": property(lambda self: np.asarray(self).shape),
              "__getitem__": lambda self, item: np.asarray(self)[item]}  # fmt: skip
    made = {}
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    for module, name, methods in (
        ("chumpy.ch", "Ch", chumpy), ("chumpy.ch", "MatVecMult", {}), ("chumpy.reordering", "Select", chumpy),
        ("scipy.sparse.csc", "csc_matrix", {"todense": dense}),
    ):  # fmt: skip
        made[name] = type(name, (), {"__module__": module, **methods})
        if module not in sys.modules or module.startswith("scipy"):
            monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        setattr(sys.modules[module], name, made[name])
    return made


@pytest.mark.parametrize("name", FILES)
def test_vertices_and_joints_are_smplxs(tmp_path, classes, name):
    smplx = pytest.importorskip("smplx")
    version, gender = FILES[name]
    path = write_historical(tmp_path / name, same_surface(), classes, version)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a warning about 10 shape components
        reference = smplx.SMPL(str(path), batch_size=3)
    body = load_body(path)
    assert body.gender == gender
    assert body.is_smpl
    random = torch.Generator().manual_seed(3)
    pose, betas = 0.4 * torch.randn(3, 72, generator=random), torch.randn(3, 10, generator=random)
    transl = torch.randn(3, 3, generator=random)
    theirs = reference(global_orient=pose[:, :3], body_pose=pose[:, 3:], betas=betas, transl=transl)
    rotations = axis_angle_to_matrix(pose.reshape(3, 24, 3))
    ours = body(rotations[:, 0], rotations[:, 1:], betas, transl)
    torch.testing.assert_close(ours.vertices, theirs.vertices, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.joints, theirs.joints[:, :24], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "gender"),
    [("smplh/male/model.npz", "male"), ("SMPL_F.pkl", "female"), ("SMPLX_NEUTRAL_2020.npz", "neutral"),
     ("SMPLH_male.pkl", "male"), ("other/model.npz", None)],
)  # fmt: skip
def test_gender_in_more_names(tmp_path, name, gender):
    assert gender_in_name(tmp_path / name) == gender
