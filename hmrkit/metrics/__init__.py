"""Accuracy figures as the field defines them: pure functions of NumPy arrays or tensors.

Points are metres and results millimetres where the name ends in `_mm`. Lower is better but for `pck`, `auc`, `oks`, AP,
accuracy and F1. Every figure that is a mean over frames has a twin ``..._per_frame`` that returns the values before
they are averaged, float64; the figure is the mean of the frames that have one, each frame counting the same, as the
published evaluation codes do. Arithmetic is float64 on the device that the inputs are on.

Missing is NaN: points whose ground truth is NaN are left out, and so are predicted points that are NaN, except for
`pck` and `auc`, where they are misses; report `coverage` beside the others. Nothing left gives NaN. Shapes that differ
raise ValueError. Sequences go in one by one, so that no difference in time crosses from one into the next.

`points`: positions, one frame at a time. `surface`: distance of meshes of any vertex order. `rotations`: angles.
`motion`: acceleration, jitter, feet, world trajectories.
`image`: 2D keypoints. `coco`: AP of COCO and CrowdPose. `masks`: silhouettes, parts and surface correspondence.
`identity`: people taken for one another. `posture`: flexion of people who stand. `statistics`: confidence intervals.
"""

from hmrkit.metrics.coco import CROWDPOSE_SIGMAS, coco_keypoint_ap, crowdpose_ap
from hmrkit.metrics.frames import mean_known, root_point
from hmrkit.metrics.identity import identity_switches_per_frame
from hmrkit.metrics.image import (
    COCO_SIGMAS,
    error_px,
    error_px_per_frame,
    head_sizes,
    oks,
    pck_2d,
    pck_2d_per_joint,
    reprojection_error,
)
from hmrkit.metrics.masks import (
    SegmentationCounts,
    part_counts,
    silhouette_counts,
    surface_auc,
    surface_auc_of_points,
)
from hmrkit.metrics.motion import (
    accel_error,
    accel_error_per_frame,
    foot_sliding,
    foot_sliding_mm,
    foot_sliding_mm_per_frame,
    jitter,
    jitter_per_frame,
    rte_percent,
    rte_percent_per_frame,
    w_mpjpe_mm,
    w_mpjpe_mm_per_frame,
    wa_mpjpe_mm,
    wa_mpjpe_mm_per_frame,
)
from hmrkit.metrics.points import (
    auc,
    auc_per_frame,
    coverage,
    mpjpe_mm,
    mpjpe_mm_per_frame,
    n_mpjpe_mm,
    n_mpjpe_mm_per_frame,
    pa_mpjpe_mm,
    pa_mpjpe_mm_per_frame,
    pa_pve_mm,
    pa_pve_mm_per_frame,
    pck,
    pck_per_frame,
    procrustes_aligned,
    pve_mm,
    pve_mm_per_frame,
    pve_p_mm,
    pve_p_mm_per_frame,
    pve_s_mm,
    pve_s_mm_per_frame,
)
from hmrkit.metrics.posture import flexion_deg, flexion_while_standing_deg, standing_mask
from hmrkit.metrics.rotations import (
    mpjae_deg,
    mpjae_deg_per_frame,
    mpjae_pa_deg,
    mpjae_pa_deg_per_frame,
    rotation_error_deg,
    signed_error_deg,
)
from hmrkit.metrics.statistics import Interval, bootstrap_interval
from hmrkit.metrics.surface import surface_mm, surface_mm_per_frame

__all__ = [
    "COCO_SIGMAS",
    "CROWDPOSE_SIGMAS",
    "Interval",
    "SegmentationCounts",
    "accel_error",
    "accel_error_per_frame",
    "auc",
    "auc_per_frame",
    "bootstrap_interval",
    "coco_keypoint_ap",
    "coverage",
    "crowdpose_ap",
    "error_px",
    "error_px_per_frame",
    "flexion_deg",
    "flexion_while_standing_deg",
    "foot_sliding",
    "foot_sliding_mm",
    "foot_sliding_mm_per_frame",
    "head_sizes",
    "identity_switches_per_frame",
    "jitter",
    "jitter_per_frame",
    "mean_known",
    "mpjae_deg",
    "mpjae_deg_per_frame",
    "mpjae_pa_deg",
    "mpjae_pa_deg_per_frame",
    "mpjpe_mm",
    "mpjpe_mm_per_frame",
    "n_mpjpe_mm",
    "n_mpjpe_mm_per_frame",
    "oks",
    "pa_mpjpe_mm",
    "pa_mpjpe_mm_per_frame",
    "pa_pve_mm",
    "pa_pve_mm_per_frame",
    "part_counts",
    "pck",
    "pck_2d",
    "pck_2d_per_joint",
    "pck_per_frame",
    "procrustes_aligned",
    "pve_mm",
    "pve_mm_per_frame",
    "pve_p_mm",
    "pve_p_mm_per_frame",
    "pve_s_mm",
    "pve_s_mm_per_frame",
    "reprojection_error",
    "root_point",
    "rotation_error_deg",
    "rte_percent",
    "rte_percent_per_frame",
    "signed_error_deg",
    "silhouette_counts",
    "standing_mask",
    "surface_auc",
    "surface_auc_of_points",
    "surface_mm",
    "surface_mm_per_frame",
    "w_mpjpe_mm",
    "w_mpjpe_mm_per_frame",
    "wa_mpjpe_mm",
    "wa_mpjpe_mm_per_frame",
]
