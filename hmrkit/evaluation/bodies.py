"""Which bodies a protocol compares, and how named points are read off them.

The truth of most datasets is a SMPL body of the person's gender, and most papers' joints are a fixed combination of its
vertices (`J_regressor_h36m.npy`); both are files that every user has to get from their makers. A prediction on the free
body has other vertices: its points are then matched by name, and the report says so.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from hmrkit.body import Body, load_body
from hmrkit.body.files import find_body
from hmrkit.datasets import BodyTruth
from hmrkit.errors import WeightsError
from hmrkit.evaluation.protocols import ALIASES, JointSource
from hmrkit.skeletons import SMPL_24
from hmrkit.untrusted.arrays import load_array
from hmrkit.weights import weight_folders

log = logging.getLogger(__name__)

REGRESSOR_FILE = "J_regressor_h36m.npy"
# The rows of J_regressor_h36m.npy as SPIN's H36M_TO_J14 reads them: the left leg comes first.
H36M_ROWS = (
    "pelvis", "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle", "spine", "neck", "jaw",
    "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
# Vertices of SMPL's face (smplx, vertex_ids).
SMPL_FACE = {"nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583}
# Of SMPL's feet, where WHAM looks for sliding.
SMPL_FEET = (3216, 3387, 6617, 6787)


def smpl_folders(given: Path | None) -> list[Path]:
    """Where the user's SMPL files are searched for: `given` alone, else ``smpl`` in each weights folder, then these."""
    if given is not None:
        return [given if given.is_dir() else given.parent]
    folders = weight_folders()
    return [*(folder / "smpl" for folder in folders), *folders]


class Bodies:
    """The predicted body, the true ones, and the points that are read off them. `notes` says what is not as published.

    `smpl` is a folder with the official SMPL files, `regressor` the path of J_regressor_h36m.npy; both are searched for
    where they are not given.
    """

    def __init__(self, predicted: Body, smpl: Path | None = None, regressor: Path | None = None) -> None:
        self.predicted = predicted
        self.notes: list[str] = []
        self._smpl, self._regressor = smpl, regressor
        self._true: dict[tuple[str, str], Body] = {}

    def note(self, line: str) -> None:
        """Say something in the report, once."""
        if line not in self.notes:
            self.notes.append(line)

    @property
    def same_surface(self) -> bool:
        """Whether predictions are SMPL bodies, whose vertices correspond to the truth's."""
        return self.predicted.is_smpl

    def true(self, model: str, gender: str) -> Body:
        """The body that a truth is posed with; WeightsError says what to register for and where to put it."""
        if (model, gender) not in self._true:
            source = None if model == "hmrkit" else self._smpl_file(gender)
            self._true[model, gender] = load_body(source, gender=gender, device=self.predicted.device)
        return self._true[model, gender]

    def has_smpl(self) -> bool:
        """Whether the user's SMPL files are there."""
        try:
            for gender in ("male", "female"):
                self._smpl_file(gender)
        except WeightsError:
            return False
        return True

    def _smpl_file(self, gender: str) -> Path:
        for folder in smpl_folders(self._smpl):
            if folder.is_dir():
                try:
                    return find_body(folder, gender)
                except WeightsError:
                    continue
        raise self._missing([f"SMPL_{gender.upper()}.pkl"])

    def check(self, genders: Collection[str], regressed: bool) -> None:
        """ONE WeightsError that names all of the user's files that are wanted and not there."""
        missing = []
        for gender in sorted(genders):
            try:
                self._smpl_file(gender)
            except WeightsError:
                missing.append(f"SMPL_{gender.upper()}.pkl (or basicmodel_{gender[0]}_lbs_10_207_0_v1.0.0.pkl)")
        if regressed and self.regressor is None:
            missing.append(REGRESSOR_FILE)
        if missing:
            raise self._missing(missing)

    def _missing(self, files: Sequence[str]) -> WeightsError:
        searched = smpl_folders(self._smpl)
        return WeightsError(
            "the protocol compares SMPL bodies, whose files may not be shipped: register at https://smpl.is.tue.mpg.de "
            f"(the regressor: SPIN's fetch_data.sh); not found: {', '.join(files)}; put them into one of "
            f"{', '.join(str(f) for f in searched[:3])}, or name the folder with --smpl"
        )

    @cached_property
    def regressor(self) -> np.ndarray | None:
        """J_regressor_h36m (17,V), or None where the user has none; WeightsError for another file of that name."""
        places = [self._regressor] if self._regressor else [f / REGRESSOR_FILE for f in smpl_folders(self._smpl)]
        path = next((p for p in places if p.is_file()), None)
        if path is None and self._regressor is None:
            return None
        try:
            matrix = load_array(str(path))
        except (OSError, ValueError) as error:
            raise WeightsError(f"{path}: wanted {REGRESSOR_FILE} (17 x 6890), cannot read it: {error}") from error
        if matrix.ndim != 2 or len(matrix) != 17:
            raise WeightsError(f"{path}: wanted {REGRESSOR_FILE} of shape (17, 6890), found {matrix.shape}")
        return matrix.astype(np.float64)

    def points(
        self,
        body: Body,
        vertices: np.ndarray,
        joints: np.ndarray,
        names: Sequence[str],
        source: JointSource,
        transl: np.ndarray | None = None,
    ) -> np.ndarray:
        """Named points (n,P,3) of posed `vertices` (n,V,3) with kinematic `joints` (n,24,3); NaN for unknown names.

        `transl` (n,3) is what the body was moved by: rows of published regressors do not sum to 1, so they are applied
        before a body is moved, as papers do (a body 5 m away loses almost 2 mm else). float64: millimetres are asked
        for to the second decimal.
        """
        out = np.full((len(joints), len(names), 3), np.nan)
        rows: list[tuple[int, np.ndarray]] = []
        for k, name in enumerate(names):
            found = self._resolve(body, name, source)
            if isinstance(found, int):
                out[:, k] = joints[:, found]
            elif found is not None:
                rows.append((k, found))
        if rows:
            matrix = np.stack([row for _, row in rows])
            used = np.nonzero(matrix.any(0))[0]
            moved = np.zeros((len(joints), 1, 3)) if transl is None else transl[:, None].astype(np.float64)
            still = vertices[:, used].astype(np.float64) - moved
            out[:, [k for k, _ in rows]] = np.einsum("jv,nvc->njc", matrix[:, used], still, optimize=True) + moved
        return out

    def knows(self, body: Body, name: str, source: JointSource) -> bool:
        """Whether `points` has that name."""
        return self._resolve(body, name, source) is not None

    def _resolve(self, body: Body, name: str, source: JointSource) -> int | np.ndarray | None:
        """A kinematic joint's number, or a row over the vertices, or None; aliases are tried for unknown names."""
        for candidate in (name, *ALIASES.get(name, ())):
            found = self._place(body, candidate, source)
            if found is not None:
                return found
        return None

    def _place(self, body: Body, name: str, source: JointSource) -> int | np.ndarray | None:
        if source == "model":
            return SMPL_24.index.get(name)
        if body.is_smpl:
            if source == "regressed" and self.regressor is None:
                raise self._missing([REGRESSOR_FILE])
            if self.regressor is not None and name in H36M_ROWS:
                if self.regressor.shape[1] != body.num_vertices:
                    raise WeightsError(
                        f"{REGRESSOR_FILE} is for {self.regressor.shape[1]} vertices, the body has {body.num_vertices}"
                    )
                self._check_sides(body)
                return self.regressor[H36M_ROWS.index(name)]
            if source == "regressed":
                return None
            if name in SMPL_FACE:
                return _only(SMPL_FACE[name], body.num_vertices)
        else:
            if source == "regressed":
                self.note(
                    f"predicted joints are the {body.family} body's own, matched by name, not {REGRESSOR_FILE} times "
                    "SMPL's vertices: close to published figures, not comparable to the decimal"
                )
            if body.keypoint_regressor is not None and name in body.keypoint_names:
                return body.keypoint_regressor.matrix[body.keypoint_names.index(name)].astype(np.float64)
            if name in body.landmark_vertices:
                return _only(body.landmark_vertices[name], body.num_vertices)
        if name == "head_top":
            return _only(int(body.v_template[:, 1].argmax()), body.num_vertices)
        return SMPL_24.index.get(name)

    def _check_sides(self, body: Body) -> None:
        """WeightsError for a regressor whose rows 1 to 3 are the right leg, as other projects order theirs."""
        assert self.regressor is not None
        ankle = float(self.regressor[H36M_ROWS.index("left_ankle")] @ body.v_template[:, 0].double().cpu().numpy())
        if ankle < 0:
            raise WeightsError(f"{REGRESSOR_FILE}: rows 1 to 3 are the right leg; wanted SPIN's file, left leg first")


def _only(vertex: int, count: int) -> np.ndarray:
    row = np.zeros(count)
    row[vertex] = 1
    return row


def posed_truth(
    body: Body, truth: BodyTruth, rows: np.ndarray, camera_from_world: np.ndarray | None, world: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (n,V,3), joints (n,24,3) and global rotations (n,24,3,3) of the true body in some rows.

    Turned into the camera's axes and not translated, as published evaluations compare bodies; with `world` in the
    dataset's own frame, translated.
    """
    orient = truth.global_orient[rows]
    if not world and camera_from_world is not None:
        orient = camera_from_world[rows][:, :3, :3] @ orient
    betas = truth.betas if truth.betas.ndim == 1 else truth.betas[rows]
    with torch.inference_mode():
        mesh = body(orient, truth.body_pose[rows], betas, truth.transl[rows] if world else None)
    return mesh.vertices.cpu().numpy(), mesh.joints.cpu().numpy(), mesh.joint_rotations.cpu().numpy()
