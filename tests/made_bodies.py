"""Body files that look like a user's: SMPL's pickles of old, and the free body's surface in another shape space."""

import numpy as np
import scipy.sparse
from made_datasets import dump_python2

from hmrkit.body.files import SMPL_KEYS, find_body, read_smpl_file


def same_surface(gender="neutral", seed=0):
    """The arrays of a body with the free body's surfaces: vertices in another order, the mean and the axes of the shape
    space other ones. The same poses are possible, with other betas."""
    random = np.random.default_rng(seed)
    model = {key: np.asarray(read_smpl_file(find_body(None, gender))[key], np.float64) for key in SMPL_KEYS}
    order = random.permutation(len(model["v_template"]))
    axes, _ = np.linalg.qr(random.normal(size=(10, 10)))
    shapes = model["shapedirs"][..., :10]
    return {
        "v_template": (model["v_template"] + shapes @ (0.5 * random.normal(size=10)))[order],
        "shapedirs": (shapes @ axes)[order], "posedirs": model["posedirs"][order],
        "weights": model["weights"][order], "J_regressor": model["J_regressor"][:, order],
        "f": np.argsort(order)[model["f"].astype(int)].astype(np.uint32), "kintree_table": tree(),
    }  # fmt: skip


def tree():
    """SMPL's joints as its files have them: the root's parent is 2^32 - 1."""
    table = np.asarray(read_smpl_file(find_body())["kintree_table"], np.int64).copy()
    table[0, 0] = 2**32 - 1
    return table


def write_historical(path, arrays, classes, version):
    """A Python 2 pickle in the form of SMPL `version` 1.0.0 (10 shape components) or 1.1.0 (300).

    `classes` are stand-ins for chumpy's Ch and Select and scipy's csc_matrix, under the names of their time.
    """

    def with_state(name, **state):
        made = classes[name]()
        made.__dict__.update(state)
        return made

    shapes = arrays["shapedirs"]
    if version == "1.1.0":
        more = np.random.default_rng(1).normal(0, 1e-3, (len(shapes), 3, 290))
        shapes = np.concatenate([shapes, more], -1)
    sparse = scipy.sparse.csc_matrix(arrays["J_regressor"])
    regressor = with_state(
        "csc_matrix", _shape=sparse.shape, data=sparse.data, indices=sparse.indices, indptr=sparse.indptr, maxprint=50
    )
    old = {
        **arrays, "J_regressor": regressor, "J_regressor_prior": regressor, "bs_type": "lrotmin", "bs_style": "lbs",
        "shapedirs": with_state("Ch", x=shapes, _dirty_vars=set(), _itr=None),
        "J": arrays["J_regressor"] @ arrays["v_template"], "pose_training_info": {"num_poses": 1078},
        "vert_sym_idxs": np.arange(len(shapes)), "weights_prior": arrays["weights"],
    }  # fmt: skip
    if version == "1.1.0":
        old["v_template"] = with_state(
            "Select", a=with_state("Ch", x=arrays["v_template"]), idxs=np.arange(arrays["v_template"].size),
            preferred_shape=arrays["v_template"].shape,
        )  # fmt: skip
        old["J"] = with_state("MatVecMult", mtx=regressor, vec=with_state("Ch", x=arrays["v_template"].ravel()))
    dump_python2(old, path)
    return path
