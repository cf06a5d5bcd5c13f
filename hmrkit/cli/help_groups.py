"""How a command's options stand in its help: those of a run by stage, below the command's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

from hmrkit.members import visible
from hmrkit.options import Option

_TITLES = {
    "detect": "Clip and detection",
    "track": "Tracking",
    "pose": "Keypoints",
    "regress": "Meshes",
    "lift": "Lifted pose",
    "calibrate": "Calibration",
}
_RUNNING = "Running"


def group_of(facts: Option) -> str:
    """The title below which an option of a run stands: that of the first stage whose result it changes, or of the one
    stage that has it."""
    stages = facts.changes or (facts.also if len(facts.also) == 1 else ())
    return _TITLES.get(stages[0], _RUNNING) if stages else _RUNNING


def completion(facts: Option) -> Callable[[str], list[str]] | None:
    """What a shell completes an option with: the members that can be chosen; None where it has no members."""
    if facts.choices is None:
        return None
    names = [*visible(facts.choices)]

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


class GroupedCommand(TyperCommand):
    """A command whose help has a section for each group of its options (their ``rich_help_panel``)."""

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                groups.setdefault(_group(parameter), []).append(record)
        order = ["Arguments", "Options", *_TITLES.values(), _RUNNING]
        for title in sorted(groups, key=order.index):
            with formatter.section(title):
                formatter.write_dl(groups[title])


def _group(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    return getattr(parameter, "rich_help_panel", None) or "Options"
