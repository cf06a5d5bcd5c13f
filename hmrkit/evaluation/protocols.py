"""Evaluation protocols as named data: what exactly a figure means, so that only like is compared with like.

Five incompatible ways to score 3DPW are in use under one name (see each `source`). A protocol says which joints, how
they are made, where the pelvis is, what is aligned, whose body the truth is, which frames count and how they are
averaged; `describe` puts all of it into words for the report. How to add one: add an entry to `PROTOCOLS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hmrkit.errors import UsageError
from hmrkit.members import unknown
from hmrkit.skeletons import H36M_17, LSP_14, SMPL_24, SPIN_17

# Where joints come from. ``regressed``: J_regressor_h36m times the vertices; ``model``: the 24 joints of the kinematic
# tree; ``named``: whatever body joints and keypoints have the names that the truth's points have.
JointSource = Literal["regressed", "model", "named"]
# ``mesh``: made from the true body like the predicted ones; ``measured``: the joints that the dataset hands out.
TruthSource = Literal["mesh", "measured"]
# What the vertices are moved by before PVE. ``untranslated``: by nothing, both bodies posed with zero translation.
VertexAlignment = Literal["untranslated", "pelvis", "root-joint"]

HIPS = ("left_hip", "right_hip")
# The nine parts of the 3DPW challenge, in the order of its submissions.
CHALLENGE_PARTS = (
    "pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow",
)  # fmt: skip
CHALLENGE_PCK = tuple(f"{side}_{part}" for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
                      for side in ("left", "right"))  # fmt: skip
# Points that can be found on any body and that any capture system gives; no two skeletons agree on more.
LANDMARKS = tuple(f"{side}_{part}" for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
                  for side in ("left", "right"))  # fmt: skip
# Names for one place in different skeletons: a joint that is not found is searched for under these, in this order.
ALIASES = {"neck": ("thorax",), "thorax": ("neck",), "jaw": ("nose",), "nose": ("jaw",), "spine": ("spine2",)}

_POSE_METRICS = ("mpjpe_mm", "pa_mpjpe_mm")
_ON_IMAGES = ("coco_ap", "crowdpose_ap", "hidden_2d_px", "silhouette")


@dataclass(frozen=True, kw_only=True)
class EvalProtocol:
    """One way to score. `metrics` are names that `hmrkit.scoring` computes, the first is the one that papers lead with.

    `pelvis`: the joints whose mean is the origin. `datasets`: the ones for which it is defined, empty: any.
    `pck_joints` empty: all of them. `min_keypoints`: visible 2D keypoints that a frame must have to count.
    `average`: ``frames`` pooled over everything, ``groups`` the mean of the groups' (actions') means.
    """

    name: str
    summary: str
    source: str
    joints: tuple[str, ...] = ()
    joint_source: JointSource = "regressed"
    truth: TruthSource = "mesh"
    pelvis: tuple[str, ...] = ("pelvis",)
    vertices: VertexAlignment = "pelvis"
    truth_gender: Literal["annotated", "neutral"] = "annotated"
    metrics: tuple[str, ...] = _POSE_METRICS
    pck_mm: float = 150.0
    pck_joints: tuple[str, ...] = ()
    auc_mm: tuple[float, ...] = tuple(float(t) for t in range(0, 151, 5))
    parts: tuple[str, ...] = CHALLENGE_PARTS
    min_keypoints: int = 0
    frames: str = "those that the dataset marks valid"
    average: Literal["frames", "groups"] = "frames"
    datasets: tuple[str, ...] = ()

    @property
    def on_images(self) -> bool:
        """Whether the mesh is compared in the image (keypoints, silhouettes) and not in space."""
        return any(name in _ON_IMAGES for name in self.metrics)

    @property
    def on_surfaces(self) -> tuple[str, ...]:
        """The metrics that compare meshes, for which the true body has to be posed."""
        return tuple(name for name in self.metrics if name.startswith(("pve", "surface")))

    def describe(self) -> dict[str, str]:
        """All that a reader needs to know to compare, in words, for the report."""
        made = {
            "regressed": "J_regressor_h36m times the posed vertices",
            "model": "joints of the body's kinematic tree",
            "named": "body joints and keypoints, matched by name",
        }
        moved = {
            "untranslated": "not aligned, both bodies posed without translation",
            "pelvis": "each mesh moved by its pelvis",
            "root-joint": "each mesh moved by joint 0 of its body",
        }
        words = {
            "protocol": f"{self.name}: {self.summary}",
            "source": self.source,
            "joints": f"{len(self.joints)}: {', '.join(self.joints)}" if self.joints else "those of the dataset",
            "predicted joints": made[self.joint_source],
            "true joints": "made from the true body in the same way" if self.truth == "mesh" else "as the dataset has",
            "pelvis": " and ".join(self.pelvis) + (", their middle" if len(self.pelvis) > 1 else ""),
            "true body": f"SMPL, gender {self.truth_gender}",
            "frames": self.frames + (f", at least {self.min_keypoints} 2D keypoints" if self.min_keypoints else ""),
            "average": "over all frames" if self.average == "frames" else "mean of the groups' means",
        }
        if self.on_surfaces:
            words["vertices"] = moved[self.vertices]
        if "surface_mm" in self.metrics:
            words["surface"] = "from each surface to the nearest point of the other, by area, mean of both ways"
        if "pa_mpjpe_mm" in self.metrics:
            words["PA"] = "per frame, similarity with scale, no reflection, on the same joints"
        if "pck_percent" in self.metrics:
            words["PCK, AUC"] = (
                f"{len(self.pck_joints or self.joints)} joints, pelvis-aligned; PCK at {self.pck_mm:g} mm, "
                f"AUC over {self.auc_mm[0]:g} to {self.auc_mm[-1]:g} mm"
            )
        if "mpjae_deg" in self.metrics:
            words["MPJAE"] = "global rotations of " + ", ".join(self.parts)
        return words


_ALL = (
    EvalProtocol(
        name="body",
        summary="the 24 joints and the surface of the body model itself",
        source="PC-HMR on SURREAL (Luan et al. 2021); any dataset with a body as its truth",
        joints=SMPL_24.joints,
        joint_source="model",
        vertices="root-joint",
        metrics=("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "mpjae_deg", "pve_shape_mm", "pve_pose_mm"),
    ),
    EvalProtocol(
        name="synthetic-video",
        summary="joints and surface of the body model, and their motion, of people in clips",
        source="hmrkit; acceleration as Kanazawa et al. 2019 (HMMR), jitter as Yi et al. 2022 (PIP), a tenth of it, of "
        "joints in the world, identity switches as Bernardin and Stiefelhagen 2008",
        joints=SMPL_24.joints,
        joint_source="model",
        vertices="root-joint",
        metrics=(
            "mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "accel_m_per_s2", "jitter_10m_per_s3", "true_jitter_10m_per_s3",
            "id_switches_per_1000",
        ),
        frames="people of whom three tenths of the keypoints are visible",
        datasets=("synthetic-video",),
    ),
    EvalProtocol(
        name="surface",
        summary="distance of the surfaces, whose vertices need not correspond (free body against SMPL)",
        source="hmrkit; point to surface, both ways, as scans are compared with bodies",
        joints=SMPL_24.joints,
        joint_source="model",
        vertices="root-joint",
        metrics=("surface_mm", "mpjpe_mm", "pa_mpjpe_mm"),
    ),
    EvalProtocol(
        name="landmarks",
        summary="hips, knees, ankles, shoulders, elbows and wrists, measured by whatever system",
        source="hmrkit; what marker systems and triangulated keypoints have in common with a body model",
        joints=LANDMARKS,
        joint_source="named",
        truth="measured",
        pelvis=HIPS,
        metrics=("mpjpe_mm", "pa_mpjpe_mm", "n_mpjpe_mm", "pck_percent", "auc_percent", "accel_m_per_s2"),
    ),
    EvalProtocol(
        name="spin",
        summary="3DPW (or UP-3D) as HMR, SPIN, DaNet, PyMAF and PARE report it",
        source="Kolotouros et al. 2019 (SPIN, eval.py); PVE as Zhang et al. 2021 (PyMAF)",
        joints=LSP_14.joints,
        vertices="untranslated",
        metrics=("mpjpe_mm", "pa_mpjpe_mm", "pve_mm"),
        min_keypoints=1,
        datasets=("3dpw", "up-3d", "npz"),
    ),
    EvalProtocol(
        name="vibe",
        summary="3DPW as VIBE and TCMR report it",
        source="Kocabas et al. 2020 (VIBE, eval.py)",
        joints=LSP_14.joints,
        pelvis=HIPS,
        vertices="untranslated",
        truth_gender="neutral",
        metrics=("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "accel_mm_per_frame2"),
        min_keypoints=7,
        datasets=("3dpw", "npz"),
    ),
    EvalProtocol(
        name="wham",
        summary="3DPW as WHAM, GVHMR and PromptHMR report it",
        source="Shin et al. 2024 (WHAM, evaluate_3dpw.py)",
        joints=LSP_14.joints,
        pelvis=HIPS,
        metrics=("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "accel_m_per_s2"),
        datasets=("3dpw", "npz"),
    ),
    EvalProtocol(
        name="wham-world",
        summary="EMDB as WHAM, GVHMR and TRAM report it",
        source="Shin et al. 2024 (WHAM, evaluate_emdb.py); world metrics in pieces of 100 frames",
        joints=SMPL_24.joints,
        joint_source="model",
        pelvis=HIPS,
        metrics=(
            "mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "accel_m_per_s2", "w_mpjpe_mm", "wa_mpjpe_mm", "rte_percent",
            "jitter_10m_per_s3", "foot_sliding_mm",
        ),
        datasets=("emdb",),
    ),
    EvalProtocol(
        name="3dpw-official",
        summary="the 3DPW challenge's own evaluation",
        source="von Marcard et al., ECCV 2020 challenge (aymenmir1/3dpw-eval)",
        joints=SMPL_24.joints,
        joint_source="model",
        metrics=("mpjpe_mm", "pa_mpjpe_mm", "pck_percent", "auc_percent", "mpjae_deg", "mpjae_pa_deg"),
        pck_mm=50.0,
        pck_joints=CHALLENGE_PCK,
        auc_mm=tuple(float(t) for t in range(200)),
        frames="camera pose valid and any 2D keypoint; the challenge scores all splits (--split all)",
        datasets=("3dpw",),
    ),
    EvalProtocol(
        name="emdb-official",
        summary="EMDB 1 by its own evaluation",
        source="Kaufmann et al. 2023 (eth-ait/emdb, evaluate.py)",
        joints=SMPL_24.joints,
        joint_source="model",
        pelvis=HIPS,
        metrics=(
            "mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "pve_pa_mm", "mpjae_deg", "mpjae_pa_deg", "jitter_emdb_10m_per_s3",
        ),
        frames="good_frames_mask",
        datasets=("emdb",),
    ),
    EvalProtocol(
        name="hmr-p1",
        summary="Human3.6M protocol 1 as HMR and SPIN report it: subjects 9 and 11, all cameras, every 5th frame",
        source="Kanazawa et al. 2018 (HMR); SPIN, eval.py",
        joints=LSP_14.joints,
        truth="measured",
        frames="every 5th of all four cameras",
        datasets=("h36m", "npz"),
    ),
    EvalProtocol(
        name="hmr-p2",
        summary="Human3.6M protocol 2 as HMR and SPIN report it: subjects 9 and 11, frontal camera, every 5th frame",
        source="Kanazawa et al. 2018 (HMR); SPIN, eval.py",
        joints=LSP_14.joints,
        truth="measured",
        metrics=("pa_mpjpe_mm", "mpjpe_mm"),
        frames="every 5th of camera 60457274",
        datasets=("h36m", "npz"),
    ),
    EvalProtocol(
        name="pavllo-1",
        summary="Human3.6M protocol #1 as VideoPose3D reports it: MPJPE of 17 joints, all cameras and frames",
        source="Pavllo et al. 2019 (VideoPose3D, run.py)",
        joints=H36M_17.joints,
        truth="measured",
        metrics=("mpjpe_mm", "n_mpjpe_mm"),
        average="groups",
        datasets=("h36m",),
    ),
    EvalProtocol(
        name="pavllo-2",
        summary="Human3.6M protocol #2 as VideoPose3D reports it: the same after Procrustes",
        source="Pavllo et al. 2019 (VideoPose3D, run.py)",
        joints=H36M_17.joints,
        truth="measured",
        metrics=("pa_mpjpe_mm",),
        average="groups",
        datasets=("h36m",),
    ),
    EvalProtocol(
        name="mpi-inf-3dhp",
        summary="MPI-INF-3DHP test set as SPIN reports it: 17 joints, PCK at 150 mm, AUC",
        source="Mehta et al. 2017; SPIN, eval.py",
        joints=SPIN_17.joints,
        truth="measured",
        metrics=("pck_percent", "auc_percent", "mpjpe_mm", "pa_mpjpe_mm"),
        frames="valid_frame, all joints within the image",
        datasets=("mpi-inf-3dhp", "npz"),
    ),
    EvalProtocol(
        name="coco-ap",
        summary="COCO's keypoint AP of the projected mesh, in the people's own boxes",
        source="Lin et al. 2014 (pycocotools); DaNet and PyMAF, eval_coco.py",
        joint_source="named",
        truth="measured",
        metrics=("coco_ap",),
        frames="every annotated person",
        datasets=("coco",),
    ),
    EvalProtocol(
        name="crowdpose-ap",
        summary="CrowdPose's keypoint AP of the projected mesh: all, easy, medium, hard by crowd index",
        source="Li et al. 2019",
        joint_source="named",
        truth="measured",
        metrics=("crowdpose_ap",),
        frames="every annotated person",
        datasets=("crowdpose",),
    ),
    EvalProtocol(
        name="invisible-2d",
        summary="error of the projected mesh at joints that are annotated but hidden: pixels, and PCKh at 0.5",
        source="Andriluka et al. 2014 (PCKh: 0.6 of the head box's diagonal)",
        joint_source="named",
        truth="measured",
        metrics=("hidden_2d_px", "hidden_pckh_percent", "visible_pckh_percent"),
        frames="people with a hidden joint",
        datasets=("mpii-invisible",),
    ),
    EvalProtocol(
        name="lsp-parts",
        summary="silhouette and six parts of the projected mesh against labels, pixels pooled over the set",
        source="Lassner et al. 2017; SPIN, eval.py --dataset lsp",
        joint_source="named",
        truth="measured",
        metrics=("silhouette", "parts"),
        frames="all test images with labels",
        datasets=("lsp",),
    ),
)  # fmt: skip

PROTOCOLS: dict[str, EvalProtocol] = {protocol.name: protocol for protocol in _ALL}


def choose_protocol(name: str, dataset: str) -> EvalProtocol:
    """The protocol of that name, for `dataset`; UsageError where there is none or it is not defined on that dataset."""
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    protocol = PROTOCOLS[name]
    family = "3dpw" if dataset.startswith("3dpw") else dataset
    if protocol.datasets and family not in protocol.datasets:
        fitting = [p.name for p in _ALL if not p.datasets or family in p.datasets]
        raise UsageError(
            f"protocol {name} is defined on {', '.join(protocol.datasets)}, not on {dataset}; "
            f"use one of {', '.join(fitting)}"
        )
    return protocol
