"""PC-HMR's calibration of a mesh by a target pose (Luan et al. 2021, section 3.3)."""

from hmrkit.calibration.bones import (
    CalibrationWeights,
    bone_transforms,
    calibrate,
    geometric_calibration,
    initial_weights,
    load_calibration,
    save_calibration,
)

__all__ = [
    "CalibrationWeights",
    "bone_transforms",
    "calibrate",
    "geometric_calibration",
    "initial_weights",
    "load_calibration",
    "save_calibration",
]
