"""Body files of every age are read, nothing in them is run, and the twin that is written is read by smplx."""

import contextlib
import io
import os
import pickle
import sys
import types

import numpy as np
import pytest
import scipy.sparse
import torch

from hmrkit.body import load_body
from hmrkit.body.files import GENDERS, export_smpl_pickle, find_body, gender_in_name, read_smpl_file
from hmrkit.errors import WeightsError


@pytest.fixture
def historical(monkeypatch):
    """Classes under the names that SMPL's Python 2 files give them; chumpy itself is not installed anywhere."""
    classes = {}
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    for module, name in (("chumpy.ch", "Ch"), ("chumpy.reordering", "Select"), ("scipy.sparse.csc", "csc_matrix")):
        made = type(name, (), {"__module__": module})
        fake = types.ModuleType(module)
        setattr(fake, name, made)
        monkeypatch.setitem(sys.modules, module, fake)
        classes[name] = made
    return classes


def with_state(cls, **state):
    instance = cls()
    instance.__dict__.update(state)
    return instance


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_a_historical_pickle_gives_the_same_body(tmp_path, historical, protocol):
    model = read_smpl_file(find_body())
    sparse = scipy.sparse.csc_matrix(model["J_regressor"])
    shapes = with_state(historical["Ch"], x=model["shapedirs"], _dirty_vars=set(), _itr=None)
    indices = np.arange(model["v_template"].size)
    old = {
        "v_template": with_state(
            historical["Select"], a=with_state(historical["Ch"], x=model["v_template"]), idxs=indices,
            preferred_shape=model["v_template"].shape,
        ),
        "shapedirs": shapes,
        "J_regressor": with_state(
            historical["csc_matrix"], _shape=sparse.shape, data=sparse.data, indices=sparse.indices,
            indptr=sparse.indptr, maxprint=50,
        ),
        "f": model["f"], "posedirs": model["posedirs"], "weights": model["weights"],
        "kintree_table": model["kintree_table"], "bs_type": "lrotmin", b"bs_style": b"lbs",
    }  # fmt: skip
    raw = pickle.dumps(old, protocol=protocol).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert (b"copy_reg" in raw) == (protocol < 2)  # how protocols 0 and 1 make every object
    path = tmp_path / "basicModel_f_lbs_10_207_0_v1.0.0.pkl"
    path.write_bytes(raw)
    read = read_smpl_file(path)
    for key in ("v_template", "shapedirs", "J_regressor", "f", "posedirs", "weights", "kintree_table"):
        np.testing.assert_array_equal(read[key], model[key])
    body = load_body(path)
    assert body.gender == "female"
    assert torch.equal(body().vertices, load_body()().vertices)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("layout", ["csc_matrix", "csr_matrix", "coo_matrix", "csr_array"])
def test_sparse_matrices_of_todays_scipy(tmp_path, layout, protocol):
    dense = np.round(np.random.default_rng(0).uniform(-1, 1, (5, 9)))
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"J_regressor": getattr(scipy.sparse, layout)(dense)}, protocol=protocol))
    np.testing.assert_array_equal(read_smpl_file(path)["J_regressor"], dense)


def test_object_entries_of_an_npz_are_read_with_the_same_care(tmp_path):
    path = tmp_path / "model.npz"
    np.savez(path, part2num=np.array({"head": 1}, dtype=object), f=np.eye(3))
    read = read_smpl_file(path)
    assert read["part2num"] == {"head": 1}
    np.testing.assert_array_equal(read["f"], np.eye(3))
    np.savez(path, trap=np.array(Trap("os.mkdir"), dtype=object))
    with pytest.raises(WeightsError, match="refused"):
        read_smpl_file(path)


class Trap:
    """Pickles into a call of a function."""

    def __init__(self, function: str, *arguments: str) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        targets = {"os.mkdir": os.mkdir, "eval": eval, "numpy.load": np.load, "getattr": getattr}
        return targets[self.function], self.arguments


@pytest.mark.parametrize("function", ["os.mkdir", "eval", "numpy.load", "getattr"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_wants_something_run_is_refused_in_one_line(tmp_path, function, protocol):
    marker = tmp_path / "it-ran"
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps({"v_template": Trap(function, str(marker))}, protocol=protocol))
    with pytest.raises(WeightsError, match="refused") as caught:
        read_smpl_file(path)
    assert not marker.exists()
    assert "\n" not in str(caught.value)
    assert "SMPL_NEUTRAL.pkl" in str(caught.value)


def test_allowed_constructors_do_not_open_a_way_round(tmp_path):
    path = tmp_path / "model.pkl"
    for harmful in (b"ccopy_reg\n_reconstructor\n(cbuiltins\nobject\ncbuiltins\nobject\nNtR.",
                    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
                    b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", b"Pid\n."):  # fmt: skip
        path.write_bytes(harmful)
        with pytest.raises(WeightsError, match="refused"):
            read_smpl_file(path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04broken", pickle.dumps([1, 2]), None, "cut"])
def test_what_is_no_model_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "model.pkl"
    if content == "cut":
        content = pickle.dumps({"v_template": np.zeros((100, 3))})[:-500]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        read_smpl_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("gender", GENDERS)
def test_smplx_opens_the_twin_and_gives_our_vertices(tmp_path, gender):
    smplx = pytest.importorskip("smplx")
    path = export_smpl_pickle(tmp_path / f"SMPL_{gender.upper()}.pkl", gender)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a warning about 10 shape components
        reference = smplx.SMPL(model_path=str(path), batch_size=4)
    random = torch.Generator().manual_seed(3)
    pose, betas = 0.4 * torch.randn(4, 72, generator=random), torch.randn(4, 10, generator=random)
    theirs = reference(global_orient=pose[:, :3], body_pose=pose[:, 3:], betas=betas)
    from hmrkit.geometry import axis_angle_to_matrix

    rotations = axis_angle_to_matrix(pose.reshape(4, 24, 3))
    for body in (load_body(gender=gender), load_body(path)):
        ours = body(rotations[:, 0], rotations[:, 1:], betas)
        torch.testing.assert_close(ours.vertices, theirs.vertices, rtol=0, atol=1e-5)
    assert body.gender == gender
    assert (body.topology_id, body.model_id) == ("hmrkit-body-0", f"hmrkit-body-0-{body.gender}")
    assert body.keypoint_names == load_body().keypoint_names


def test_the_twin_needs_only_numpy_and_replaces_nothing_by_halves(tmp_path):
    path = export_smpl_pickle(tmp_path / "deep" / "SMPL_NEUTRAL.pkl")
    with open(path, "rb") as file:
        plain = pickle.load(file)
    assert plain["bs_type"] == "lrotmin"
    assert {type(value) for value in plain.values()} == {np.ndarray, str, list}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "gender"),
    [
        ("SMPL_NEUTRAL.pkl", "neutral"), ("SMPL_FEMALE.npz", "female"), ("basicModel_m_lbs_10_207_0_v1.pkl", "male"),
        ("basicmodel_f_lbs_10_207_0_v1.1.0.pkl", "female"), ("hmrkit_body_male.npz", "male"), ("model.npz", None),
        ("m_f.npz", None),
    ],
)  # fmt: skip
def test_gender_in_file_names(tmp_path, name, gender):
    assert gender_in_name(tmp_path / name) == gender
