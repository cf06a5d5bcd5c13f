"""Files that look like the user's own SMPL models and J_regressor_h36m.npy, made from the free body."""

import numpy as np

from hmrkit.body import load_body
from hmrkit.evaluation.bodies import H36M_ROWS
from hmrkit.skeletons import SMPL_24
from hmrkit.smpl_files import find_body, read_smpl_file

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
