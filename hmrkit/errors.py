"""Every error that hmrkit raises on purpose, and the exit code that each one ends a command with.

A message is one line: what was wanted, what was found, what to do next. The CLI prints it as it stands.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_MISSING_WEIGHTS = 3
EXIT_BAD_INPUT = 4
EXIT_INTERRUPTED = 130  # Ctrl-C
EXIT_HUNG_UP = 129  # SIGHUP: the terminal is gone
EXIT_TERMINATED = 143  # SIGTERM: a scheduler or `kill`
EXIT_TIME_LIMIT = 124  # --time-limit, as of `timeout`


class HmrkitError(Exception):
    """Base of every deliberate error; `exit_code` is what a command that dies of it returns."""

    exit_code = EXIT_SOME_FAILED


class UsageError(HmrkitError):
    """Options that contradict one another, or name something that does not exist."""

    exit_code = EXIT_USAGE


class WeightsError(HmrkitError):
    """Weights or a body model that are missing, damaged, or made for something else."""

    exit_code = EXIT_MISSING_WEIGHTS


class InputError(HmrkitError):
    """A video, take, keypoint file or folder that cannot be read as what it should be."""

    exit_code = EXIT_BAD_INPUT


class ModelMismatchError(HmrkitError):
    """Something made for one body model was used with another (same array shapes, other vertex order)."""

    exit_code = EXIT_BAD_INPUT


class DeviceError(HmrkitError):
    """The device asked for is absent, or its memory does not suffice."""


class GpuMemoryError(DeviceError):
    """The GPU's memory does not suffice; with fewer frames at once it may."""


def reason_of(error: BaseException) -> str:
    """What an exception says, on one line; its name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
