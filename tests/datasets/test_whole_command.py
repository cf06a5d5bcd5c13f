"""Copies of the gated datasets through the whole of `hmrkit eval`: the truth scores zero, what is rotated scores what
a few lines of NumPy make of it. SMPL's files are the free body's under their names."""

import json
import pickle

import numpy as np
import pytest
from made_datasets import (
    free_body,
    make_3dpw,
    make_emdb,
    make_h36m,
    make_mpi_inf_3dhp,
    make_surreal,
    make_up_3d,
    rotations,
)
from typer.testing import CliRunner

from hmrkit.body.files import SMPL_KEYS, find_body, read_smpl_file
from hmrkit.cli.app import app
from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.errors import InputError
from hmrkit.evaluation.bodies import H36M_ROWS
from hmrkit.evaluation.protocols import ALIASES, PROTOCOLS
from hmrkit.skeletons import SMPL_24

ROTATION = rotations([0.1, -0.2, 0.3]).astype(np.float32)

MAKERS = {
    "3dpw": lambda root: make_3dpw(root, [("test", "downtown_bus_00", 6, 2), ("test", "flat_guitar_01", 5, 1)]),
    "emdb": lambda root: make_emdb(root, [("P1", "14_climb", 8, True, False), ("P2", "15_walk", 130, False, True)]),
    "up-3d": lambda root: make_up_3d(root, 5),
    "surreal": lambda root: make_surreal(root, [("test", 0, "01_01", 1, 6)]),
    "h36m": make_h36m,
    "mpi-inf-3dhp": lambda root: make_mpi_inf_3dhp(root, hdf5=False),
}
CASES = [
    *(("3dpw", protocol, "") for protocol in ("spin", "vibe", "wham", "3dpw-official", "body")),
    ("emdb", "emdb-official", "1"), ("emdb", "wham-world", "2"), ("up-3d", "spin", ""), ("surreal", "body", ""),
    *(("h36m", protocol, "") for protocol in ("hmr-p1", "hmr-p2", "pavllo-1", "pavllo-2")),
    ("mpi-inf-3dhp", "mpi-inf-3dhp", ""),
]  # fmt: skip


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    return {name: make(folder / name) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def smpl(tmp_path_factory):
    """A folder with SMPL's three bodies and the joint regressor, as far as a reader can tell."""
    folder = tmp_path_factory.mktemp("smpl")
    model = read_smpl_file(find_body())
    for gender in ("NEUTRAL", "MALE", "FEMALE"):
        arrays = {key: model[key] for key in SMPL_KEYS}
        (folder / f"SMPL_{gender}.pkl").write_bytes(pickle.dumps(arrays, protocol=2))
    template = free_body().v_template.numpy()
    joints = free_body().joints_only().joints[0].numpy()
    regressor = np.zeros((len(H36M_ROWS), len(template)))
    renamed = {"spine": "spine2", "jaw": "head", "head_top": "head"}
    for row, name in zip(regressor, H36M_ROWS, strict=True):
        away = np.linalg.norm(template - joints[SMPL_24.index[renamed.get(name, name)]], axis=1)
        row[away.argsort()[:20]] = 1 / 20
    np.save(folder / "J_regressor_h36m.npy", regressor)
    return folder


def predictions(dataset, protocol, rotation):
    """What a perfect method would say of everybody, rotated in the camera's axes about the pelvis by `rotation`."""
    rest = free_body().joints_only
    output = {}
    for sequence in dataset.sequences():
        for truth in sequence.people:
            owner, body = f"{sequence.name}/{truth.person}/", truth.body
            if body is None:
                order = [
                    next(truth.skeleton.index[n] for n in (name, *ALIASES.get(name, ())) if n in truth.skeleton.index)
                    for name in protocol.joints
                ]
                pelvis = truth.joints_c[:, truth.skeleton.indices("pelvis")]
                output[owner + "joints"] = (truth.joints_c - pelvis)[:, order] @ rotation.T
                continue
            matrix = np.tile(np.eye(4, dtype=np.float32), (len(truth.valid), 1, 1))
            matrix = matrix if truth.camera_from_world is None else truth.camera_from_world
            betas = np.broadcast_to(body.betas, (len(truth.valid), 10)).copy()
            output[owner + "global_orient"] = rotation @ matrix[:, :3, :3] @ body.global_orient
            output[owner + "body_pose"] = body.body_pose
            output[owner + "betas"] = betas
            if np.isfinite(body.transl).all():
                pelvis = rest(betas=betas).joints[:, 0].numpy()
                moved = np.einsum("tij,tj->ti", matrix[:, :3, :3], pelvis + body.transl) + matrix[:, :3, 3]
                output[owner + "transl"] = moved - pelvis
    return output


def figures(tmp_path, smpl, name, root, protocol, split, rotation):
    """The figures that the command prints as JSON."""
    dataset = load_dataset(name, root, DatasetOptions(split=split, protocol=protocol))
    np.savez(tmp_path / "results.npz", **predictions(dataset, PROTOCOLS[protocol], rotation))
    result = CliRunner().invoke(
        app,
        [
            "eval", "--dataset", name, "--data", str(root), "--protocol", protocol, "--split", split, "--smpl",
            str(smpl), "--body", str(smpl / "SMPL_NEUTRAL.pkl"), "--predictions", str(tmp_path / "results.npz"),
            "--out", str(tmp_path / "out"), "--no-sheet", "--device", "cpu", "--json",
        ],
    )  # fmt: skip
    assert result.exit_code == 0, (result.stderr, result.exception)
    (row,) = json.loads(result.stdout)["methods"]
    assert row["missed"] == 0
    return {name: figure["mean"] for name, figure in row["figures"].items()}, row


@pytest.mark.parametrize(("name", "protocol", "split"), CASES)
def test_the_truth_scores_zero_in_every_metric(tmp_path, copies, smpl, name, protocol, split):
    found, row = figures(tmp_path, smpl, name, copies[name], protocol, split, np.eye(3, dtype=np.float32))
    assert set(found) == set(PROTOCOLS[protocol].metrics)
    best = {"pck_percent": 100, "auc_percent": 100}
    for metric, value in found.items():
        if metric.startswith("jitter"):  # of the prediction alone
            continue
        if metric == "foot_sliding_mm":  # how far true feet go that count as resting: less than a centimetre
            assert 0 < value < 10
            continue
        if value is None:  # acceleration of a clip in which no four frames in a row count
            assert metric.startswith("accel")
            continue
        # Areas start at a threshold of 0 mm, which nothing stays below; elsewhere float32 costs a few micrometres.
        assert value == pytest.approx(best.get(metric, 0), abs=2 if metric == "auc_percent" else 0.02), metric
    counted = {"3dpw": 11, "up-3d": 5, "surreal": 6, "mpi-inf-3dhp": 12}
    counted |= {"emdb": {"1": 7, "2": 129}.get(split), "h36m": {"hmr-p1": 96, "hmr-p2": 24}.get(protocol, 308)}
    assert row["frames"] == counted[name]


@pytest.mark.parametrize(("name", "protocol"), [("3dpw", "3dpw-official"), ("surreal", "body"), ("h36m", "hmr-p2")])
def test_a_rotated_body_scores_what_numpy_makes_of_it(tmp_path, copies, smpl, name, protocol):
    found, _ = figures(tmp_path, smpl, name, copies[name], protocol, "", ROTATION)
    errors = []
    for sequence in load_dataset(name, copies[name], DatasetOptions(protocol=protocol)).sequences():
        for truth in sequence.people:
            order = [truth.skeleton.index[ALIASES[n][0] if n == "neck" and n not in truth.skeleton.index else n]
                     for n in PROTOCOLS[protocol].joints]  # fmt: skip
            joints = truth.joints_c.astype(np.float64) - truth.joints_c[:, truth.skeleton.indices("pelvis")]
            errors.append(np.linalg.norm((joints @ ROTATION.T - joints)[truth.valid][:, order], axis=-1).mean(1))
    assert found["mpjpe_mm"] == pytest.approx(1000 * np.concatenate(errors).mean(), abs=0.02)
    assert found["pa_mpjpe_mm"] == pytest.approx(0, abs=0.02)
    if "mpjae_deg" in found:
        assert found["mpjae_deg"] == pytest.approx(np.degrees(np.arccos((np.trace(ROTATION) - 1) / 2)), abs=0.01)


def test_missing_files_stop_the_command_before_any_work(tmp_path, smpl):
    result = CliRunner().invoke(
        app, ["eval", "--dataset", "emdb", "--data", str(tmp_path), "--method", "fit", "--out", str(tmp_path / "out")]
    )
    assert isinstance(result.exception, InputError)
    assert not (tmp_path / "out").exists()
