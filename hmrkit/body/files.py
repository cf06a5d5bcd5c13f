"""Find, read, check and write body-model files of the SMPL family.

What a file must hold to be a SMPL body is stated here once; `hmrkit.body` computes with it. Pickles go through
`hmrkit.untrusted`, which runs nothing that a file names.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.errors import WeightsError, reason_of
from hmrkit.files import atomic_path
from hmrkit.members import unknown
from hmrkit.skeletons import SMPL_24
from hmrkit.take import free_body_id
from hmrkit.types import GENDERS
from hmrkit.untrusted import limits
from hmrkit.untrusted.arrays import open_regular, read_npz
from hmrkit.untrusted.values import unpickle
from hmrkit.weights import find_weights, verify

FREE = "default"  # the free body's name, as --body and --to take it
KINDS = {
    24: "smpl",
    52: "smplh",
    55: "smplx",
}  # joints in a file -> name of what `hmrkit weights import-body` makes of it
NUM_BETAS = 10
# What every reader of SMPL files asks for (Loper et al. 2015).
SMPL_KEYS = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table")


def find_body(source: str | Path | None = None, gender: str = "neutral") -> Path:
    """Path of the body file that `hmrkit.body.load_body` would read: the free body (None or ``default``), a file, the
    one in a folder, or an imported body (``smpl``, ``smplh``, ``smplx``: `hmrkit.body.importing`).

    Raises UsageError for an unknown gender, WeightsError where there is no such file or it is damaged.
    """
    if gender not in GENDERS:
        raise unknown("gender", gender, GENDERS)
    if source is None or (source == FREE and not Path(source).exists()):
        name = f"body/hmrkit_body_{gender}.npz"
        verify(name)
        return find_weights(name)
    folder = Path(source).expanduser()
    if source in KINDS.values() and not folder.exists():
        try:
            return find_weights(imported_name(str(source), gender))
        except WeightsError as error:
            raise WeightsError(f"{error}; make it of your file: hmrkit weights import-body FILE") from error
    if not folder.is_dir():
        return find_weights(source)
    found = [path for path in sorted(folder.iterdir()) if path.suffix in (".pkl", ".npz")]
    fitting = [path for path in found if gender_in_name(path) == gender]
    if len(fitting) != 1:
        names = ", ".join(path.name for path in fitting or found) or "none"
        raise WeightsError(
            f"{folder}: expected one .pkl or .npz with {gender!r} in its name, found {names}; name the file"
        )
    return fitting[0]


def imported_name(kind: str, gender: str) -> str:
    """The weights name of an imported body."""
    return f"body/{kind}_{gender}.npz"


def gender_in_name(path: Path) -> str | None:
    """SMPL_NEUTRAL.pkl, basicModel_f_lbs_10_207_0_v1.0.0.pkl, smplh/male/model.npz, ... -> gender, None where the name
    does not say."""
    words = (path.parent.name if path.stem == "model" else path.stem).lower().replace("-", "_").split("_")
    letters = {"n": "neutral", "m": "male", "f": "female"}
    family = {"basicmodel", *KINDS.values()} & set(words)
    for word in words:
        if word in GENDERS or (word in letters and family):
            return letters.get(word, word)
    return None


def read_smpl_file(path: str | Path) -> dict[str, Any]:
    """Contents of a SMPL-family ``.pkl`` (any age) or ``.npz``: name -> array, text or number.

    Sparse matrices come back dense, chumpy values as arrays. Nothing that the file names is executed.
    Raises WeightsError where the file is absent, damaged, not a model, or asks for anything that no model needs.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > limits.BODY_BYTES:
                raise WeightsError(
                    f"{path}: expected a body model of at most {limits.BODY_BYTES / 1e9:.1f} GB, found {size / 1e9:.1f}"
                )
            raw = io.BytesIO(file.read())
    except OSError as error:
        raise WeightsError(
            f"{path}: expected a body model (.pkl or .npz), got {error.strerror}; check --body"
        ) from error
    try:
        zipped = zipfile.is_zipfile(raw)
        raw.seek(0)
        loaded = read_npz(raw) if zipped else unpickle(raw)
        if not isinstance(loaded, dict):
            raise pickle.UnpicklingError(f"holds a {type(loaded).__name__}, not a dictionary of arrays")
        named = {(key.decode("latin1") if isinstance(key, bytes) else str(key)): v for key, v in loaded.items()}
        if odd := [key for key in SMPL_KEYS if key in named and named[key] is None]:
            raise WeightsError(
                f"{odd[0]} holds a chumpy expression that is neither an array nor a selection of one; save it as arrays"
            )
        # Others may be such expressions, as J of SMPL 1.1.0, a product of arrays that are there.
        return {key: value for key, value in named.items() if value is not None}
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle can fail anywhere inside the unpickler, with any exception
        reason = reason_of(error)
        raise WeightsError(
            f"{path}: expected a SMPL body model (.pkl or .npz), could not read it: {reason}; it is damaged, "
            "cut off or another kind of file, get it again"
        ) from error


def check_smpl_model(model: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays that make a SMPL body, float64 where they are real, `shapedirs` cut to 10; WeightsError otherwise."""
    arrays = check_shapes(model)
    if (joints := arrays["kintree_table"].shape[-1]) != len(SMPL_24):
        raise WeightsError(f"expected SMPL with 24 joints, found {joints}; give the SMPL file")
    arrays["shapedirs"] = arrays["shapedirs"][..., :NUM_BETAS]
    if arrays["kintree_table"][0, 1:].tolist() != list(SMPL_24.parents[1:]):
        raise WeightsError(
            "kintree_table: expected SMPL's tree of 24 joints, found another one; it is no SMPL body model"
        )
    real = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")
    arrays = {key: array.astype(np.float64) if key in real else array for key, array in arrays.items()}
    if damaged := [key for key in real if not np.isfinite(arrays[key]).all()]:
        raise WeightsError(f"{', '.join(damaged)}: expected numbers, found NaN or infinity; the file is damaged")
    return arrays


def check_shapes(model: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays named by `SMPL_KEYS`, where they fit one another; WeightsError otherwise.

    With V vertices, J joints: `v_template` (V,3), `f` (F,3), `shapedirs` (V,3,10 or more), `posedirs` (V,3,9 (J-1)),
    `J_regressor` (J,V), `weights` (V,J), `kintree_table` (2,J).
    """
    missing = [key for key in SMPL_KEYS if key not in model]
    if missing:
        raise WeightsError(f"expected a SMPL body model, it lacks {', '.join(missing)}")
    arrays = {key: np.asarray(model[key]) for key in SMPL_KEYS}
    if any(arrays[key].ndim == 0 for key in ("v_template", "f", "kintree_table")):
        raise WeightsError("v_template, f, kintree_table: expected arrays, found single values; it is no body model")
    vertices, joints = arrays["v_template"].shape[0], arrays["kintree_table"].shape[-1]
    if max(vertices, len(arrays["f"]) // 4) > limits.BODY_VERTICES:
        raise WeightsError(f"expected a body of at most {limits.BODY_VERTICES} vertices, found {vertices}")
    wanted = {
        "v_template": (vertices, 3), "f": (len(arrays["f"]), 3), "posedirs": (vertices, 3, 9 * (joints - 1)),
        "J_regressor": (joints, vertices), "weights": (vertices, joints), "kintree_table": (2, joints),
    }  # fmt: skip
    for key, shape in wanted.items():
        if arrays[key].shape != shape:
            raise WeightsError(f"{key}: expected shape {shape}, found {arrays[key].shape}; it is no SMPL body model")
    shapes = arrays["shapedirs"]
    if shapes.ndim != 3 or shapes.shape[:2] != (vertices, 3) or shapes.shape[2] < NUM_BETAS:
        raise WeightsError(f"shapedirs: expected shape ({vertices}, 3, 10 or more), found {shapes.shape}")
    if arrays["f"].dtype.kind not in "iuf" or not (arrays["f"] < vertices).all() or (arrays["f"] < 0).any():
        raise WeightsError(f"f: expected numbers of {vertices} vertices, found others; it is no SMPL body model")
    for key in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights"):
        if arrays[key].dtype.kind not in "fiu" or not np.isfinite(arrays[key]).all():
            raise WeightsError(f"{key}: expected finite numbers, found NaN or others; the file is damaged")
    return arrays


def content_id(arrays: dict[str, np.ndarray]) -> str:
    """``smpl-`` and eight hex digits of the surface and shape space: the same for one model as .pkl and as .npz."""
    digest = hashlib.sha256(arrays["f"].astype("<i4").tobytes())
    for key in ("v_template", "shapedirs"):
        digest.update(np.ascontiguousarray(arrays[key], "<f4").tobytes())
    return f"smpl-{digest.hexdigest()[:8]}"


def body_ids(model: dict[str, Any], arrays: dict[str, np.ndarray], gender: str) -> tuple[str, str]:
    """A body's `topology_id` and `model_id`: see `hmrkit.body.Body`. `arrays` are `model`'s, checked.

    The free bodies share their vertices' order; a user's file has an id of its content, which no other sex has.
    """
    topology = str(model["model_id"]) if "model_id" in model else content_id(arrays)
    return topology, free_body_id(topology, gender) if topology.startswith("hmrkit-") else topology


def export_smpl_pickle(path: str | Path, gender: str = "neutral", source: str | Path | None = None) -> Path:
    """Write the ``.pkl`` twin of a body model, which ``smplx.SMPL(model_path=...)`` and other SMPL tools read.

    `source` is a body file, by default the free body of that gender. Arrays are plain NumPy, names are text; the
    pickle needs nothing but NumPy to be opened. Returns the path written.
    """
    model = read_smpl_file(find_body(source, gender))
    check_smpl_model(model)
    # Text arrays as plain lists and strings: other tools expect bs_type == "lrotmin", not a NumPy value.
    twin = {k: v.tolist() if isinstance(v, np.ndarray) and v.dtype.kind in "US" else v for k, v in model.items()}
    path = Path(path)
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps(twin, protocol=2))
    return path
