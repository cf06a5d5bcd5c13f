"""Ray: actors that load the models once each, and get clips from a Ray Data pipeline."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hmrkit.batches.journal import Journal
from hmrkit.batches.naming import Clip
from hmrkit.batches.result import ClipResult, Outputs
from hmrkit.batches.running import run_batch
from hmrkit.batches.watching import Watch
from hmrkit.errors import UsageError
from hmrkit.models import Models
from hmrkit.options import Options

try:
    import ray
    import ray.data
except ImportError as error:
    raise UsageError(
        f"`hmrkit submit ray` needs Ray Data, which cannot be imported ({error}); pip install 'hmrkit[ray]'"
    ) from error

Batch = dict[str, np.ndarray]


class ClipActor:
    """Runs the clips that it is given with models of its own."""

    def __init__(self, options: Options, outputs: Outputs, max_tries: int | None) -> None:
        self.models, self.outputs, self.max_tries = Models(options), outputs, max_tries
        node = ray.get_runtime_context().get_node_id()[:8]
        self.journal = Journal(outputs.folder, "ray", f"{self.models.device} of node {node}")

    def __call__(self, batch: Batch) -> Batch:
        """`source` and `name` of clips -> what became of them."""
        results: list[ClipResult] = []
        clips = [Clip(str(s), str(n)) for s, n in zip(batch["source"], batch["name"], strict=True)]
        quiet = Watch(len(clips))
        run_batch(
            clips, self.models, self.outputs, self.journal, quiet.progress, results.append, max_tries=self.max_tries
        )
        return {"result": np.array(results, dtype=object)}


def run_on_ray(
    clips: Sequence[Clip],
    options: Options,
    outputs: Outputs,
    workers: int,
    gpus: float,
    done: Callable[[ClipResult], None],
    address: str | None = None,
    max_tries: int | None = None,
) -> Counter[int]:
    """`run_batch` by `workers` actors of `gpus` GPUs each (0: one CPU), on the cluster at `address` or on this machine.
    All nodes must see the clips and the folder of results under the same names."""
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows: list[dict[str, Any]] = [{"source": clip.source, "name": clip.name} for clip in clips]
    resources: dict[str, Any] = {"num_gpus": gpus} if gpus else {"num_cpus": 1}
    made = ray.data.from_items(rows, override_num_blocks=max(min(len(rows), 50 * workers), 1)).map_batches(
        ClipActor,
        fn_constructor_args=(options, outputs, max_tries),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
        **resources,
    )
    codes: Counter[int] = Counter()
    for row in made.iter_rows():
        codes[row["result"].exit_code] += 1
        done(row["result"])
    return codes
