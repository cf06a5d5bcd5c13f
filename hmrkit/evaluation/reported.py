"""What papers print for a dataset and protocol: it stands beside our figures, marked as theirs.

Copied from the tables of PC-HMR (Luan et al. 2021), DaNet (Zhang et al. 2020), HKMR (Georgakis et al. 2020), SGRE and
GLNet. A paper that does not say which of two protocols it follows stands with the one that its method's code uses.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reported:
    """One row of a paper's table: `method`, the `paper` that prints it, and figures by metric name."""

    method: str
    paper: str
    figures: dict[str, float]


def _pose(method: str, paper: str, mpjpe: float | None, pa: float | None, pve: float | None = None) -> Reported:
    figures = {"mpjpe_mm": mpjpe, "pa_mpjpe_mm": pa, "pve_mm": pve}
    return Reported(method, paper, {name: value for name, value in figures.items() if value is not None})


def _ap(method: str, paper: str, *figures: float) -> Reported:
    names = ("AP", "AP50", "AP75", "APm", "APl")
    return Reported(method, paper, dict(zip(names, figures, strict=True)))


def _crowd(method: str, paper: str, *figures: float) -> Reported:
    names = ("AP", "AP50", "AP75", "AP_easy", "AP_medium", "AP_hard")
    return Reported(method, paper, dict(zip(names, figures, strict=False)))


_HIDDEN = ("hidden_2d_px", "hidden_pckh_percent")
_LSP = ("silhouette_accuracy_percent", "silhouette_f1", "part_accuracy_percent", "part_f1")

# (dataset, protocol) -> rows
REPORTED: dict[tuple[str, str], tuple[Reported, ...]] = {
    ("3dpw", "spin"): (
        _pose("HMR", "DaNet", 130.0, 76.7),
        _pose("SPIN", "DaNet", 96.9, 59.2, 114.8),
        _pose("DaNet", "DaNet", 85.5, 54.8, 110.8),
        _pose("PC-HMR", "PC-HMR", 87.8, 66.9, 108.6),
        _pose("SGRE", "SGRE", 81.5, 51.4, 97.4),
        _pose("3DCrowdNet + SGRE", "SGRE", 78.4, 49.6, 93.3),
        _pose("GLNet-W32", "GLNet", 66.3, 39.7, 77.7),
        _pose("GLNet-W48", "GLNet", 66.9, 39.5, 77.9),
    ),
    ("3dpw", "vibe"): (_pose("VIBE", "SGRE", 93.5, 56.5, 113.4),),
    ("3dpw-occ", "spin"): (
        _pose("SPIN", "SGRE", 95.6, 60.8, 121.6),
        _pose("PARE", "SGRE", 90.5, 56.6, 107.9),
        _pose("SGRE", "SGRE", 89.9, 56.9, 104.4),
        _pose("3DCrowdNet + SGRE", "SGRE", 83.6, 53.1, 97.2),
    ),
    ("h36m", "hmr-p1"): (
        _pose("HMR", "HKMR", 87.97, None),
        _pose("CMR", "HKMR", 74.70, None),
        _pose("SPIN", "HKMR", 65.60, None),
        _pose("HKMR", "HKMR", 71.08, None),
        _pose("HKMR (fitting in the loop)", "HKMR", 64.02, None),
    ),
    ("h36m", "hmr-p2"): (
        _pose("HMR", "DaNet", 88.0, 56.8),
        _pose("SPIN", "HKMR; DaNet", 62.23, 41.1),
        _pose("HKMR", "HKMR", 67.74, None),
        _pose("HKMR (fitting in the loop)", "HKMR", 59.62, None),
        _pose("DaNet", "DaNet", 54.6, 42.9, 66.5),
        _pose("PC-HMR", "PC-HMR", 47.9, 37.3, 61.1),
        _pose("GLNet-W32", "GLNet", 47.5, 29.8),
        _pose("GLNet-W48", "GLNet", 48.8, 29.4),
    ),
    ("surreal", "body"): (
        _pose("HMR", "PC-HMR", 73.6, 55.4, 85.1),
        _pose("BodyNet", "PC-HMR", None, None, 73.6),
        _pose("PC-HMR", "PC-HMR", 51.7, 37.9, 59.8),
    ),
    ("up-3d", "spin"): (
        _pose("HMR", "DaNet", None, None, 149.2),
        _pose("DaNet", "DaNet", None, None, 82.3),
    ),
    ("coco", "coco-ap"): (
        _ap("HMR", "DaNet", 18.9, 47.5, 11.7, 21.5, 17.0),
        _ap("SPIN", "DaNet", 17.3, 39.1, 13.5, 19.0, 16.6),
        _ap("DaNet", "DaNet", 33.8, 68.6, 29.9, 36.0, 32.3),
        _ap("SGRE", "SGRE", 44.6, 75.5, 46.6, 47.6, 42.7),
        _ap("3DCrowdNet + SGRE", "SGRE", 58.4, 86.5, 66.2, 62.5, 55.6),
    ),
    ("crowdpose", "crowdpose-ap"): (
        _crowd("SPIN", "SGRE", 17.2, 42.4, 11.2),
        _crowd("SGRE", "SGRE", 43.1, 69.3, 46.2, 52.6, 44.2, 33.1),
        _crowd("3DCrowdNet + SGRE", "SGRE", 52.9, 79.8, 57.5, 59.3, 53.6, 46.1),
    ),
    ("mpii-invisible", "invisible-2d"): (
        Reported("SPIN", "HKMR", dict(zip(_HIDDEN, (59.52, 62.16), strict=True))),
        Reported("HKMR (fitting in the loop)", "HKMR", dict(zip(_HIDDEN, (55.56, 66.24), strict=True))),
    ),
    ("lsp", "lsp-parts"): (
        Reported("HMR", "HKMR", dict(zip(_LSP, (91.67, 0.87, 87.12, 0.60), strict=True))),
        Reported("SPIN", "HKMR", dict(zip(_LSP, (91.83, 0.87, 89.41, 0.68), strict=True))),
        Reported("HKMR (fitting in the loop)", "HKMR", dict(zip(_LSP, (92.23, 0.88, 89.59, 0.69), strict=True))),
    ),
}
