"""Human3.6M's calibration, from the dataset's ``metadata.xml`` or from VideoPose3D's ``h36m_dataset.py``.

Neither is shipped here: the numbers belong to the dataset. VideoPose3D's file is Python, of which only the two literal
tables of numbers are read; nothing in it is run.
"""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hmrkit.datasets.annotations import rotation_matrices
from hmrkit.errors import InputError
from hmrkit.geometry import quaternion_to_matrix
from hmrkit.types import Camera

# Order of the cameras in both files, and the size of each one's images.
CAMERAS = {
    "54138969": (1000, 1002),
    "55011271": (1000, 1000),
    "58860488": (1000, 1000),
    "60457274": (1000, 1002),
}
NAMES = ("metadata.xml", "h36m_dataset.py")
_SUBJECTS = 11
_PLACES = ("", "Release-v1.2", "Release-v1.1", "common")


@dataclass(frozen=True)
class StudioCamera:
    """One camera of one subject's recordings: ``x_c = rotation (x_w - position)``, m; lens as the toolbox has it."""

    rotation: np.ndarray
    position: np.ndarray
    pinhole: Camera
    radial: np.ndarray
    tangential: np.ndarray

    def to_camera(self, points_w: np.ndarray) -> np.ndarray:
        """World (...,3) m, z up -> camera frame (...,3)."""
        return ((points_w - self.position) @ self.rotation.T).astype(np.float32)

    def project(self, points_c: np.ndarray) -> np.ndarray:
        """Camera frame (...,3) m -> pixels (...,2) of the real, distorted images (VideoPose3D's ground truth 2D)."""
        xy = points_c[..., :2] / points_c[..., 2:]
        r2 = (xy * xy).sum(-1, keepdims=True)
        scale = 1 + (r2 ** np.arange(1, 4) * self.radial).sum(-1, keepdims=True)
        xy = xy * (scale + (self.tangential * xy).sum(-1, keepdims=True)) + self.tangential * r2
        return (xy * self.pinhole.focal_px + self.pinhole.center_px).astype(np.float32)


def find_calibration(root: Path) -> Path | None:
    """The first of the files that hold the calibration, at `root` or where the two releases put them."""
    places = [root / folder / name for name in NAMES for folder in _PLACES]
    return next((place for place in places if place.is_file()), None)


def read_calibration(path: Path) -> dict[tuple[str, str], StudioCamera]:
    """(subject, camera id) -> camera. InputError where the file is not one of the two, or is damaged."""
    try:
        return _from_xml(path) if path.suffix == ".xml" else _from_python(path)
    except (OSError, ValueError, KeyError, IndexError, TypeError, SyntaxError, ElementTree.ParseError) as error:
        raise InputError(
            f"{path}: cannot read it as Human3.6M's calibration ({type(error).__name__}: {error}); "
            f"wanted the dataset's {NAMES[0]} or VideoPose3D's common/{NAMES[1]}"
        ) from error


def _from_xml(path: Path) -> dict[tuple[str, str], StudioCamera]:
    """``<w0>`` holds 300 numbers: 4 cameras x 11 subjects x (3 angles, position in mm), then 4 x 9 of the lenses."""
    text = ElementTree.parse(path).getroot().findtext("w0") or ""
    numbers = np.array(text.strip(" []\n").split(), np.float64)
    if len(numbers) != 300:
        raise ValueError(f"<w0>: expected 300 numbers, got {len(numbers)}")
    outside = numbers[:264].reshape(len(CAMERAS), _SUBJECTS, 6)
    inside = numbers[264:].reshape(len(CAMERAS), 9)
    cameras = {}
    for index, camera_id in enumerate(CAMERAS):
        # Rotations about x, y and z in turn: R = Rx Ry Rz.
        x, y, z = (rotation_matrices(outside[index, :, axis : axis + 1] * np.eye(3)[axis]) for axis in range(3))
        rotations = x.astype(np.float64) @ y @ z
        focal, center, radial, tangential = np.split(inside[index], [2, 4, 7])
        for subject in range(_SUBJECTS):
            cameras[f"S{subject + 1}", camera_id] = StudioCamera(
                rotations[subject], outside[index, subject, 3:] / 1000, _pinhole(camera_id, focal, center), radial,
                tangential,
            )  # fmt: skip
    return cameras


def _from_python(path: Path) -> dict[tuple[str, str], StudioCamera]:
    tables = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in ("h36m_cameras_intrinsic_params", "h36m_cameras_extrinsic_params"):
                tables[name] = ast.literal_eval(node.value)
    lenses, places = tables["h36m_cameras_intrinsic_params"], tables["h36m_cameras_extrinsic_params"]
    cameras = {}
    for subject, of_subject in places.items():
        for lens, place in zip(lenses, of_subject, strict=True):
            if "orientation" not in place:  # subjects whose poses were never released
                continue
            quaternion = torch.tensor(place["orientation"], dtype=torch.float64)
            cameras[subject, lens["id"]] = StudioCamera(
                quaternion_to_matrix(quaternion).mT.numpy(),  # the file turns the camera's axes into the world's
                np.array(place["translation"]) / 1000,
                _pinhole(lens["id"], np.array(lens["focal_length"]), np.array(lens["center"])),
                np.array(lens["radial_distortion"]),
                np.array(lens["tangential_distortion"]),
            )
    return cameras


def _pinhole(camera_id: str, focal: np.ndarray, center: np.ndarray) -> Camera:
    width, height = CAMERAS[camera_id]
    return Camera(focal.astype(np.float32), center.astype(np.float32), width, height, "given")
