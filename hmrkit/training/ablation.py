"""Ablations: the variants of a paper trained under one budget, the paper's table beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """One line of a paper's ablation table.

    `group` is what is varied, `name` the line in the paper's words, `changes` what differs from the preset
    (`hmrkit.training.recipe.changed`; the paper's own design changes nothing), `paper` the figures printed there by the
    names that its table has, with their unit: ``{"3DPW PA-MPJPE mm": 49.1}``."""

    group: str
    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, float] = field(default_factory=dict)
