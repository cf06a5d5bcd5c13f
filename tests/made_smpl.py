"""Files that look like the user's own SMPL models and J_regressor_h36m.npy, made from the free body."""

import numpy as np

from hmrkit.body import load_body
from hmrkit.body.files import find_body, read_smpl_file
from hmrkit.evaluation.bodies import H36M_ROWS
from hmrkit.skeletons import SMPL_24

OTHER_NAMES = {"spine": "spine2", "jaw": "head", "head_top": "head"}


def make_smpl(folder, alike=False):
    """SMPL_MALE.npz, SMPL_FEMALE.npz, SMPL_NEUTRAL.npz and the regressor in `folder`, which is returned.

    `alike`: all three are one body.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for gender in ("neutral", "male", "female"):
        model = read_smpl_file(find_body(None, "neutral" if alike else gender))
        extras = ("model_id", "vertex_mirror", "keypoint_names", "keypoint_regressor")
        model = {key: value for key, value in model.items() if key not in extras}
        np.savez(folder / f"SMPL_{gender.upper()}.npz", **model)
    np.save(folder / "J_regressor_h36m.npy", regressor())
    return folder


def regressor():
    """(17,6890): each of Human3.6M's joints as the mean of the 30 vertices about a joint of the rest pose."""
    body = load_body()
    rest = body()
    vertices, joints = rest.vertices[0].double().numpy(), rest.joints[0].double().numpy()
    matrix = np.zeros((17, len(vertices)))
    for row, name in enumerate(H36M_ROWS):
        place = joints[SMPL_24.index[OTHER_NAMES.get(name, name)]]
        if name == "head_top":
            place = vertices[vertices[:, 1].argmax()]
        near = np.argsort(np.linalg.norm(vertices - place, axis=1))[:30]
        matrix[row, near] = 1 / 30 * (1 + 1e-4 * np.sin(row))  # the published rows do not sum to one either
    return matrix


def make_with_fingers(path, joints):
    """A file in the form of SMPL-H (`joints` 52, 6890 vertices) or SMPL-X (55, 10475) with made-up fingers and face.

    Skin, joints and pose corrections of the new joints are random. Vertices that the free body lacks lie on others.
    """
    random = np.random.default_rng(joints)
    small = read_smpl_file(find_body())
    extra = 0 if joints == 52 else 10475 - 6890
    rows = np.concatenate([np.arange(6890), random.integers(0, 6890, extra)])
    face = [15, 15, 15] if joints == 55 else []
    fingers = [parent for wrist in (20, 21) for _ in range(5) for parent in (wrist, None, None)]
    parents = list(small["kintree_table"][0][:22]) + face
    for parent in fingers:
        parents.append(len(parents) - 1 if parent is None else parent)
    weights = np.zeros((len(rows), joints), np.float32)
    weights[:, :22] = small["weights"][rows, :22]
    first = 22 + len(face)
    for side, hand in enumerate((22, 23)):
        share = random.dirichlet(np.ones(15), len(rows))
        weights[:, first + 15 * side : first + 15 * (side + 1)] = small["weights"][rows, hand, None] * share
    if face:
        weights[:, 22:25] = 0.1 * weights[:, 15:16]
        weights[:, 15] *= 0.7
    joint_rows = np.zeros((joints, len(rows)), np.float32)
    joint_rows[:22, :6890] = small["J_regressor"][:22]
    joint_rows[np.arange(22, joints), random.integers(0, len(rows), joints - 22)] = 1
    np.savez(
        path,
        v_template=small["v_template"][rows], f=small["f"], J_regressor=joint_rows, weights=weights,
        shapedirs=np.concatenate([small["shapedirs"][rows], 0.01 * random.normal(size=(len(rows), 3, 10))], -1),
        posedirs=np.concatenate(
            [small["posedirs"][rows, :, : 21 * 9], 1e-3 * random.normal(size=(len(rows), 3, 9 * (joints - 22)))], -1
        ),
        kintree_table=np.array([[2**32 - 1, *parents[1:]], range(joints)], np.int64),
        hands_componentsl=np.eye(45), hands_componentsr=np.eye(45), hands_meanl=random.normal(size=45),
        hands_meanr=random.normal(size=45), lmk_faces_idx=np.zeros(51, int), lmk_bary_coords=np.zeros((51, 3)),
    )  # fmt: skip
    return path
