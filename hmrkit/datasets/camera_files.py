"""Calibration files of several cameras -> `ViewCamera`s in metres, by what is in the file.

- **TOML** of Pose2Sim, Anipose, Caliscope, FreeMoCap: one table a camera with ``size`` (w, h), ``matrix``,
  ``distortions``, ``rotation`` (Rodrigues vector or matrix), ``translation``, ``fisheye``; x_c = R x_w + t.
- **Qualisys** ``.qca.txt`` / ``.xml``: ``transform`` holds the camera's place in mm and, column by column, its rotation
  with y up and z backwards; lengths on the sensor in 1/64 px; the distortion has no unit. (Pose2Sim divides the
  distortion by 64 as well when it converts; its own TOML is read as it stands.)
- **OpenCV** YAML / XML / JSON (``cv::FileStorage``): a file a camera (``camera_matrix``, ``distortion_coefficients``,
  ``rvec``, ``tvec``, ``image_width`` ... and their usual other names), or EasyMocap's intri.yml with extri.yml beside
  it; JSON also as ``{"cam01": {"K": ..., "dist": ..., "R": ..., "t": ..., "size": ...}}`` or ``{"cameras": [...]}``.

Lengths are metres, except Qualisys' (mm); `unit` overrides. Without it, cameras that stand more than 50 "metres" from
the origin (their middle one) are taken to be in mm, and the log says so.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import xml.etree.ElementTree as xml
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.datasets.view_camera import ViewCamera
from hmrkit.errors import InputError

log = logging.getLogger(__name__)

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_MATRIX = ("matrix", "camera_matrix", "cameraMatrix", "CameraMatrix", "K", "intrinsic_matrix", "intrinsicMat", "M")
_DISTORTION = (
    "distortions", "distortion_coefficients", "distCoeffs", "dist_coeffs", "dist_coef", "distCoef", "distortion",
    "dist", "D", "d",
)  # fmt: skip
_ROTATION = ("rotation", "R", "rvec", "rotation_matrix", "Rot", "r")
_TRANSLATION = ("translation", "T", "t", "tvec", "translation_vector")
_SIZE = ("size", "image_size", "imageSize", "resolution", "imgSize")
_FAR_M = 50.0


def read_cameras(path: Path, unit: str | None = None) -> tuple[ViewCamera, ...]:
    """The cameras of one calibration file in its order; InputError says what is missing, and of which camera."""
    try:
        if path.suffix.lower() == ".toml":
            tables, native = _named_tables(_load_toml(path)), "m"
        elif _is_qualisys(path):
            tables, native = _qualisys(path), "mm"
        elif path.suffix.lower() == ".json":
            tables, native = _named_tables(json.loads(path.read_text(encoding="utf-8")), path.stem), "m"
        else:
            tables, native = _opencv(path), "m"
        cameras = tuple(_camera(name, table) for name, table in tables.items())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, TypeError, KeyError, xml.ParseError) as error:
        raise InputError(f"{path}: no calibration that can be used: {error}") from error
    if not cameras:
        raise InputError(f"{path}: expected cameras (TOML, Qualisys, OpenCV YAML or JSON), found none; export it again")
    distance = float(np.median([np.linalg.norm(camera.position_w) for camera in cameras]))
    if unit is None and native == "m" and distance > _FAR_M:
        native = "mm"
        log.warning(
            "%s: cameras stand %.0f units off, taken as millimetres; say calibration_unit= else", path, distance
        )
    return tuple(_in_metres(camera, UNITS[unit or native]) for camera in cameras)


def _in_metres(camera: ViewCamera, metres: float) -> ViewCamera:
    transform = camera.camera_from_world.copy()
    transform[:3, 3] *= metres
    return replace(camera, camera_from_world=transform)


def _camera(name: str, table: Mapping[str, Any]) -> ViewCamera:
    """A camera from a table that names its parts in one of the usual ways."""
    matrix = np.asarray(_get(name, table, _MATRIX, "a camera matrix"), np.float64)
    if matrix.size != 9:
        raise ValueError(f"camera {name}: expected one 3x3 matrix (zooming cameras are not read), got {matrix.shape}")
    rotation = np.asarray(_get(name, table, _ROTATION, "a rotation"), np.float64)
    translation = np.asarray(_get(name, table, _TRANSLATION, "a translation"), np.float64).reshape(-1)
    if rotation.size not in (3, 9) or translation.size != 3:
        raise ValueError(f"camera {name}: expected one rotation and translation (moving cameras are not read)")
    distortion = np.asarray(_get(name, table, _DISTORTION, default=()), np.float64).reshape(-1)
    while distortion.size > 12 and distortion[-1] == 0:
        distortion = distortion[:-1]  # OpenCV's 14 with no tilt of the sensor
    fisheye = bool(table.get("fisheye", False))
    transform = np.eye(4)
    transform[:3, :3] = rotation.reshape(3, 3) if rotation.size == 9 else rodrigues(rotation.reshape(3))
    transform[:3, 3] = translation
    width, height = _size(name, table)
    return ViewCamera(
        name=str(table.get("name", name)),
        width=width,
        height=height,
        matrix=matrix.reshape(3, 3),
        distortion=distortion[:4] if fisheye else distortion,
        camera_from_world=transform,
        fisheye=fisheye,
    )


def _size(name: str, table: Mapping[str, Any]) -> tuple[int, int]:
    for wide, high in (("image_width", "image_height"), ("width", "height"), ("W", "H"), ("imgSizeX", "imgSizeY")):
        if wide in table and high in table:
            return round(float(table[wide])), round(float(table[high]))
    size = np.asarray(_get(name, table, _SIZE, "a size (width, height)"), np.float64).reshape(-1)
    if size.size != 2 or size.min() < 1:
        raise ValueError(f"camera {name}: expected size (width, height), got {size.tolist()}")
    return round(size[0]), round(size[1])


def _get(name: str, table: Mapping[str, Any], keys: tuple[str, ...], what: str = "", default: Any = None) -> Any:
    for key in keys:
        if key in table and table[key] is not None:
            return table[key]
    if default is None:
        raise ValueError(f"camera {name} lacks {what} (one of {', '.join(keys[:4])})")
    return default


def rodrigues(vector: np.ndarray) -> np.ndarray:
    """Rotation vector (3,) -> matrix (3,3), float64 (calibrations deserve better than a network's float32)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / angle if angle > 1e-12 else vector
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def _named_tables(content: Any, single: str = "camera") -> dict[str, Mapping[str, Any]]:
    """Camera name -> table, wherever in the file they lie: at the top, under ``cameras``, in a list, or just one."""
    if isinstance(content, Mapping):
        if any(key in content for key in _MATRIX):
            return {str(content.get("name", single)): _plain(content)}
        if "cameras" in content:
            return _named_tables(content["cameras"])
        found = {str(name): _plain(table) for name, table in content.items() if isinstance(table, Mapping)}
        return {name: table for name, table in found.items() if any(key in table for key in _MATRIX)}
    if isinstance(content, list):
        tables = [_plain(table) for table in content if isinstance(table, Mapping)]
        return {str(table.get("name", table.get("id", i))): table for i, table in enumerate(tables)}
    return {}


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """OpenCV's JSON matrices (``type_id, rows, cols, dt, data``) as nested lists."""
    out = dict(table)
    for key, value in table.items():
        if isinstance(value, Mapping) and {"rows", "cols", "data"} <= set(value):
            out[key] = np.asarray(value["data"], np.float64).reshape(int(value["rows"]), int(value["cols"]))
    return out


def _load_toml(path: Path) -> dict[str, Any]:
    try:
        toml = importlib.import_module("tomllib")
    except ModuleNotFoundError:  # Python 3.10
        try:
            toml = importlib.import_module("tomli")
        except ModuleNotFoundError:
            raise InputError(f"{path}: Python 3.10 reads TOML with the package tomli; pip install tomli") from None
    return toml.loads(path.read_text(encoding="utf-8"))


def _is_qualisys(path: Path) -> bool:
    if path.suffix.lower() not in (".xml", ".txt", ".qca"):
        return False
    return "<calibration" in path.read_text(encoding="utf-8", errors="replace")[:2000]


def _qualisys(path: Path) -> dict[str, Mapping[str, Any]]:
    """Video cameras of a QTM calibration (all cameras where none says to be one), by serial number."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if "<!ENTITY" in text:
        raise ValueError("it declares XML entities, which no calibration needs: refused")
    root = xml.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    elements = root.findall("cameras/camera")
    videos = [e for e in elements if re.search("video|hybrid|none", e.get("model", ""), re.IGNORECASE)]
    return {e.get("serial", str(i)): _qualisys_camera(e) for i, e in enumerate(videos or elements)}


def _qualisys_camera(element: xml.Element) -> dict[str, Any]:
    name = element.get("serial", "?")
    place, lens, window = element.find("transform"), element.find("intrinsic"), element.find("fov_video")
    if place is None or lens is None or window is None:
        raise ValueError(f"camera {name} lacks transform, intrinsic or fov_video (Theia's own files are not read)")
    if element.get("viewrotation", "0") != "0":
        log.warning(
            "camera %s is mounted rotated by %s degrees; the video must not be", name, element.get("viewrotation")
        )
    value = {part: {k: float(v) for k, v in e.attrib.items() if _is_number(v)} for part, e in
             (("place", place), ("lens", lens), ("window", window))}  # fmt: skip
    window_, lens_, place_ = value["window"], value["lens"], value["place"]
    matrix = np.eye(3)
    matrix[0, 0], matrix[1, 1] = lens_["focalLengthU"] / 64, lens_["focalLengthV"] / 64
    matrix[0, 2] = lens_["centerPointU"] / 64 - window_["left"]
    matrix[1, 2] = lens_["centerPointV"] / 64 - window_["top"]
    axes = np.array([[place_[f"r{row}{column}"] for column in (1, 2, 3)] for row in (1, 2, 3)])
    # The attributes r11 r12 r13 are the camera's x axis in the world; its y points up and its z backwards.
    rotation = np.diag([1.0, -1.0, -1.0]) @ axes
    return {
        "size": (window_["right"] - window_["left"] + 1, window_["bottom"] - window_["top"] + 1),
        "matrix": matrix,
        "distortions": [lens_["radialDistortion1"], lens_["radialDistortion2"], lens_["tangentalDistortion1"],
                        lens_["tangentalDistortion2"], lens_.get("radialDistortion3", 0.0)],
        "rotation": rotation,
        "translation": -rotation @ [place_["x"], place_["y"], place_["z"]],
    }  # fmt: skip


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _opencv(path: Path) -> dict[str, Mapping[str, Any]]:
    """A ``cv::FileStorage`` file: one camera, or EasyMocap's pair intri.yml + extri.yml in one folder."""
    try:
        cv2 = importlib.import_module("cv2")
    except ModuleNotFoundError:
        raise InputError(f"{path}: OpenCV's YAML needs OpenCV; pip install opencv-python, or save it as JSON") from None
    content = _file_storage(cv2, path)
    partner = {"intri": "extri", "extri": "intri"}.get(path.stem)
    if partner is not None and path.with_stem(partner).is_file():
        content |= _file_storage(cv2, path.with_stem(partner))
    if "names" not in content:
        return _named_tables(content, path.stem)
    keys = ("K", "dist", "R", "Rot", "T", "H", "W")
    tables: dict[str, Any] = {}
    for name in content["names"]:
        tables[str(name)] = {key: content[f"{key}_{name}"] for key in keys if f"{key}_{name}" in content}
    for table in tables.values():
        if "K" in table and "W" not in table:  # older files do not say it; their authors double the centre
            table["size"] = np.rint(2 * np.asarray(table["K"])[:2, 2])
    return tables


def _file_storage(cv2: Any, path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    if not text.lstrip().startswith(("%YAML", "<?xml")):
        text = "%YAML:1.0\n---\n" + text
    try:
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        root = storage.root()
        content = {key: _node(root.getNode(key)) for key in root.keys()}  # noqa: SIM118 (not a dict)
        storage.release()
    except (cv2.error, SystemError) as error:  # what its constructor raises depends on its version
        raise ValueError(f"OpenCV cannot parse it: {str(error.__cause__ or error).splitlines()[0]}") from error
    return content


def _node(node: Any) -> Any:
    """A node as number, text, list, dictionary or matrix."""
    if node.isMap():
        if {"rows", "cols", "data"} <= set(node.keys()):
            return node.mat()
        return {key: _node(node.getNode(key)) for key in node.keys()}  # noqa: SIM118
    if node.isSeq():
        return [_node(node.at(i)) for i in range(node.size())]
    return node.string() if node.isString() else node.real()
