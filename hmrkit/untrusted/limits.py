"""Sizes that no honest input reaches, checked before memory is filled: a small file can claim anything.

What unfolds from archives and pickles has limits of its own, by the file's size (`hmrkit.untrusted`).
"""

from __future__ import annotations

from pathlib import Path

from hmrkit.errors import InputError

FRAME_PIXELS = 2**26  # 8192 x 8192; 8K film has half of that
BATCH_BYTES = 2**26  # decoded frames of a batch, of which some are in flight at once: ten of 1080p, two of 4K
FIXED_BATCH_BYTES = 2**28  # where results hang on how many they are: eight of 4K fit
EXPORT_FRAMES = 2**18  # of a person, in any case; 73 minutes at 60 Hz
EXPORT_FACTOR = 16  # and for longer clips so many times the frames that the take has
PEOPLE_PER_FRAME = 1000  # in files of boxes or keypoints
JSON_BYTES = 2**28  # such a file; ten times as much memory
PLAYLIST_BYTES = 2**20
BODY_VERTICES = 2**16  # SMPL has 6890, SMPL-X 10475
BODY_BYTES = 2**30  # a body file; SMPL-X with all its shapes has half of that
CHARACTER_BYTES = 2**31  # a GLB or FBX, textures and all
TEXTURE_BYTES = 2**28  # an image file; a PNG of 8192 x 8192 rarely has half of that
CHARACTER_SECONDS = 120  # that ufbx may take for one
RIG_BONES = 4096  # of a character's rig


def too_large(width: int, height: int) -> str:
    """Why a frame (px) is larger than `FRAME_PIXELS`, "" where it is not."""
    if width * height <= FRAME_PIXELS:
        return ""
    return f"wanted frames of at most {FRAME_PIXELS / 1e6:.0f} million pixels, found {width}x{height}; shrink them"


def check_pixels(name: str | Path, width: int, height: int) -> None:
    """InputError where a frame (px) is too large."""
    if reason := too_large(width, height):
        raise InputError(f"{name}: {reason}")


def check_export(span: int, rows: int, what: str) -> None:
    """InputError where a person of `rows` frames would become `span` frames of an export, too many to hold."""
    if span > (most := max(EXPORT_FRAMES, EXPORT_FACTOR * rows)):
        raise InputError(f"{what}: {span} frames of an export, of at most {most}; choose a lower --fps or cut the take")


def check_people(name: Path, frame: int, people: int) -> None:
    """InputError where a file has more than `PEOPLE_PER_FRAME` in a frame."""
    if people > PEOPLE_PER_FRAME:
        raise InputError(
            f"{name}: frame {frame} has more than {PEOPLE_PER_FRAME} people; keep those of the highest scores"
        )


def frames_in_flight(batch_size: int, width: int, height: int, fixed: bool = False) -> int:
    """Frames of a batch: as many as asked for where they fit into `BATCH_BYTES`, at least one; `fixed`: where results
    hang on how many they are."""
    most = FIXED_BATCH_BYTES if fixed else BATCH_BYTES
    return max(1, min(batch_size, most // max(3 * width * height, 1)))


def free_memory(proc: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Bytes that a process may still take: the system's, or less where a container's limit is nearer. None unknown."""
    try:
        fields = dict(line.split(":") for line in proc.read_text().splitlines())
        free = float(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else min(free, float(limit) - float(used))
    except (OSError, ValueError):
        return free
