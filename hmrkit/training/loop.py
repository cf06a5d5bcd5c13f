"""A small training loop: AdamW under a cosine, averaged weights, checkpoints that resume, a curve to look at."""

from __future__ import annotations

import copy
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from hmrkit.errors import InputError, reason_of
from hmrkit.files import make_folder
from hmrkit.untrusted.checkpoints import read_checkpoint

log = logging.getLogger(__name__)

N = TypeVar("N", bound=nn.Module)

CHECKPOINT = "checkpoint.pt"
SCORED = 5  # every so many reports held-out scores are computed, which takes time


@dataclass(frozen=True)
class LoopConfig:
    """Hyper-parameters of a run. `ema` is the decay of the averaged weights per step; the first steps average less.
    Parameters whose names begin with `slow_part` learn at `slow_rate` times the learning rate."""

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 300
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.999
    seed: int = 0
    log_every: int = 50
    checkpoint_seconds: float = 180.0
    slow_part: str = ""
    slow_rate: float = 1.0

    def with_steps(self, steps: int) -> LoopConfig:
        """The same for another number of steps. A short run warms up and reports in proportion: a few hundred steps
        have a curve, too, and end at a low rate."""
        log_every = min(self.log_every, max(1, steps // 20))
        return replace(self, steps=steps, warmup=min(self.warmup, steps // 10), log_every=log_every)


@dataclass
class State:
    """What a checkpoint holds: `curve` is a list of (step, loss, scores by name)."""

    step: int = 0
    curve: list[tuple[int, float, dict[str, float]]] = field(default_factory=list)


def fit(
    network: N,
    loss: Callable[[nn.Module, torch.Generator], Tensor],
    config: LoopConfig,
    out: str | Path,
    *,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    resume: bool = False,
) -> N:
    """Train `network` and return the average of its weights (EMA) as a network in eval mode.

    `loss(network, generator)` draws its own batch from the generator, whose seed is the run's seed and the step: a run
    that was resumed sees the batches that it would have seen. Every few minutes ``out/checkpoint.pt`` is replaced and
    ``out/curve.png`` drawn. A run may be resumed with another number of steps; the schedule is then the new one's.
    """
    out = Path(out)
    make_folder(out)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(_groups(network, config), lr=config.learning_rate, betas=(0.9, 0.98))
    state = State()
    if resume:
        state = _load(out / CHECKPOINT, network, average, optimizer)
    saved = time.monotonic()
    recent: list[float] = []
    console = Console(stderr=True)
    columns = (TextColumn("train"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, TextColumn("{task.fields[loss]}"), console=console, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("train", total=config.steps, completed=state.step, loss="")
        while state.step < config.steps:
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * config.learning_rate * schedule(state.step, config)
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + state.step)
            network.train()
            value = loss(network, generator)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            norm = nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
            if torch.isfinite(norm):  # a batch that overflowed is left out, and the average never sees it
                optimizer.step()
                _update_average(average, network, min(config.ema, (1 + state.step) / (10 + state.step)))
            state.step += 1
            recent.append(float(value.detach()))
            last = state.step == config.steps
            if state.step % config.log_every == 0 or last:
                mean = sum(recent) / len(recent)
                scored = last or state.step % (SCORED * config.log_every) == 0
                scores = evaluate(average) if evaluate and scored else {}
                state.curve.append((state.step, mean, scores))
                text = " ".join([f"loss {mean:.4f}", *(f"{k} {v:.1f}" for k, v in scores.items())])
                log.info("step %d of %d: %s", state.step, config.steps, text)
                progress.update(task, loss=text)
                recent.clear()
            progress.update(task, completed=state.step)
            if last or time.monotonic() - saved > config.checkpoint_seconds:
                _save(out, network, average, optimizer, state)
                saved = time.monotonic()
    return average


def _groups(network: nn.Module, config: LoopConfig) -> list[dict]:
    """Parameters by decay (vectors, that is biases and norms, are not decayed) and by how fast they learn."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        slow = bool(config.slow_part) and name.startswith(config.slow_part)
        groups.setdefault((parameter.ndim > 1, slow), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if matrices else 0.0,
            "rate": config.slow_rate if slow else 1.0,
        }
        for (matrices, slow), parameters in groups.items()
    ]


def schedule(step: int, config: LoopConfig) -> float:
    """Part of the learning rate at a step: linear warm-up, then half a cosine down to 1 %."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    part = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, part)))


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for mine, theirs in zip(average.parameters(), network.parameters(), strict=True):
        mine.lerp_(theirs, 1 - decay)
    for mine, theirs in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(theirs)


def _save(out: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    content = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": state.step,
        "curve": state.curve,
    }
    temporary = out / (CHECKPOINT + ".partial")
    torch.save(content, temporary)
    os.replace(temporary, out / CHECKPOINT)
    draw_curve(state, out / "curve.png")


def _load(path: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    if not path.is_file():
        raise InputError(f"{path}: wanted a checkpoint to resume from, found none; start without --resume")
    try:
        content = read_checkpoint(path)
    except Exception as error:  # a damaged file can fail anywhere inside the reader
        reason = reason_of(error)
        raise InputError(
            f"{path}: wanted a checkpoint to resume from, cannot read it ({reason}); start anew"
        ) from error
    try:
        network.load_state_dict(content["network"])
        average.load_state_dict(content["average"])
        optimizer.load_state_dict(content["optimizer"])
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError):
        raise InputError(f"{path}: the checkpoint is of another network; use its preset or another --out") from None
    return State(content["step"], content["curve"])


def draw_curve(state: State, path: Path) -> None:
    """Loss and scores over steps as an image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([s for s, _, _ in state.curve], [value for _, value, _ in state.curve], color="0.5", label="loss")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    scored = [(s, scores) for s, _, scores in state.curve if scores]
    if scored:
        right = axes.twinx()
        for name in scored[-1][1]:
            right.plot([s for s, _ in scored], [scores.get(name, math.nan) for _, scores in scored], "o-", label=name)
        right.legend(loc="upper right")
    figure.savefig(path, dpi=100, bbox_inches="tight")
