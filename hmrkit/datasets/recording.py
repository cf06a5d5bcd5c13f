"""Which files of a recording belong together: TRC files, videos, calibration; and which video is which camera's."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from hmrkit.datasets.view_camera import ViewCamera
from hmrkit.errors import InputError

log = logging.getLogger(__name__)

_VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".m4v", ".mts", ".webm", ".mpg")
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
_JOINT_FOLDERS = ("pose-3d", "pose3d", "markers", "mocap", "trc")
_VIDEO_FOLDERS = ("videos", "video")
# In calibration folders, but no calibrations (EasyMocap's extri.yml is read with its intri.yml).
_NOT_CALIBRATIONS = ("config", "image_points", "extri", "object_points")


def find_trials(root: Path, pattern: str) -> dict[Path, list[Path]]:
    """Trial folder -> its TRC files: the folder that holds them, or the one above a ``pose-3d/``."""
    found: dict[Path, list[Path]] = {}
    for path in sorted(root.rglob(pattern)) if root.is_dir() else []:
        inside = path.parent.name.lower() in _JOINT_FOLDERS and path.parent != root
        found.setdefault(path.parent.parent if inside else path.parent, []).append(path)
    return found


def find_videos(folder: Path) -> list[Path]:
    for place in (*(folder / name for name in _VIDEO_FOLDERS), folder):
        if place.is_dir():
            found = [p for p in sorted(place.iterdir()) if p.suffix.lower() in _VIDEOS or _is_image_folder(p)]
            if found:
                return found
    return []


def _is_image_folder(path: Path) -> bool:
    return path.is_dir() and any(child.suffix.lower() in _IMAGES for child in path.iterdir())


def calibration_files(folder: Path) -> list[Path]:
    """The calibration file in a folder, or one a camera; those whose name or folder says ``calib``."""
    places = [p for p in sorted(folder.iterdir()) if p.is_dir() and "calib" in p.name.lower()]
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and re.search("calib|intri", p.name.lower())]
    files += [p for place in places for p in sorted(place.iterdir()) if p.is_file()]
    kinds = (r"\.toml$", r"\.qca\.txt$|\.qca$|\.xml$", r"\.ya?ml$|\.json$")
    for kind in kinds:
        found = [p for p in files if re.search(kind, p.name.lower()) and p.stem.lower() not in _NOT_CALIBRATIONS]
        if kind != kinds[-1] and len(found) > 1:
            raise InputError(f"{folder}: {' and '.join(p.name for p in found)} are calibrations; say calibration=FILE")
        if found:
            return found
    return []


def choose_tracks(files: list[Path]) -> dict[str, Path]:
    """Person -> TRC file of one trial: not augmented before augmented, filtered before raw."""
    by_person: dict[str, list[Path]] = {}
    for path in files:
        label = re.findall(r"_(P\d+)(?=_|$)", path.stem)
        by_person.setdefault(label[-1] if label else "person", []).append(path)
    chosen = {}
    for person, paths in by_person.items():
        best = [p for p in paths if "lstm" not in p.stem.lower()] or paths
        best = [p for p in best if "filt" in p.stem.lower()] or best
        if len(best) > 1:
            raise InputError(f"{', '.join(str(p) for p in best)}: which is the truth of {person}? say trc=PATTERN")
        chosen[person] = best[0]
    return chosen


def match_videos(
    cameras: tuple[ViewCamera, ...], videos: list[Path], folder: Path
) -> tuple[tuple[ViewCamera, Path], ...]:
    """Each camera's video by name (``cam_01`` is ``cam01``; a serial number in the name does too), else by order."""
    views = []
    for camera in cameras:
        name = _normal(camera.name)
        found = [v for v in videos if _normal(v.stem if v.is_file() else v.name) == name]
        found = found or [v for v in videos if name in re.split(r"[^a-z0-9]+", v.stem.lower())]
        if len(found) == 1:
            views.append((camera, found[0]))
    if not views and len(cameras) == len(videos):
        log.warning("%s: no video is named like a camera; they are matched in order of their names", folder)
        views = list(zip(cameras, sorted(videos, key=_natural), strict=True))
    if not views:
        raise InputError(
            f"{folder}: cameras {', '.join(c.name for c in cameras)} and videos {', '.join(v.name for v in videos)} "
            "do not match; name each video like its camera"
        )
    return tuple(views)


def _normal(name: str) -> str:
    """Lower case, no separators, numbers without leading zeros."""
    return re.sub(r"0*(\d+)", r"\1", re.sub(r"[^a-z0-9]", "", name.lower()))


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.stem.lower()) if part]
