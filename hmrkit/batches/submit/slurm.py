"""Slurm, through submitit: an array of jobs, one a shard. A job that is preempted, or runs out of time, goes back into
the queue."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hmrkit.batches.submit import Task
from hmrkit.errors import EXIT_BAD_INPUT, EXIT_MISSING_WEIGHTS, EXIT_OK, EXIT_SOME_FAILED, EXIT_TERMINATED, UsageError

try:
    import submitit
    from submitit.helpers import Checkpointable, DelayedSubmission
except ImportError as error:
    raise UsageError(
        f"`hmrkit submit slurm` needs submitit, which cannot be imported ({error}); pip install 'hmrkit[slurm]'"
    ) from error

_STOPPING_S = 60.0  # from SIGTERM, which Slurm sends first, to the signal that submitit answers


class ShardJob(Checkpointable):
    """Runs a shard in a process of its own. Where the job is to end, that process is stopped, keeps what is done, and
    the job goes back into the queue."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self, shard: str) -> int:
        """The exit code: 0, or that of failed clips (1; 3 or 4 where all failed so). RuntimeError for any other."""
        self.process = subprocess.Popen([sys.executable, "-m", "hmrkit", *self.task.command(shard)])
        code = self.process.wait()
        if code == EXIT_TERMINATED:  # Slurm stopped the process itself; its signal to this one follows
            time.sleep(_STOPPING_S)
        if code not in (EXIT_OK, EXIT_SOME_FAILED, EXIT_MISSING_WEIGHTS, EXIT_BAD_INPUT):
            raise RuntimeError(f"hmrkit run --shard {shard} ended with {code}; see the job's log")
        return code

    def checkpoint(self, shard: str) -> DelayedSubmission:
        """Called by submitit before the job ends."""
        if self.process is not None:
            with contextlib.suppress(OSError):
                os.kill(self.process.pid, signal.SIGTERM)
                os.waitpid(self.process.pid, 0)  # `wait` may be what the signal interrupted, and holds its lock
        return DelayedSubmission(ShardJob(self.task), shard)


def submit_slurm(
    task: Task, shards: int, logs: Path, cluster: str | None, settings: Mapping[str, Any]
) -> list[submitit.Job[int]]:
    """Submit an array of `shards` jobs with submitit's `settings` (``timeout_min``, ``gpus_per_node``, ...).

    `cluster` None is Slurm where it is installed, else this machine; ``local`` and ``debug`` are submitit's."""
    executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
    executor.update_parameters(name="hmrkit", **settings)
    return executor.map_array(ShardJob(task), [f"{k}/{shards}" for k in range(1, shards + 1)])
