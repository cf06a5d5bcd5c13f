"""Converters from the files that networks are published as to this project's ``.safetensors``.

To add one: write a function ``convert(source, out)`` in a module of its own and add its line to `CONVERTERS`. A
converter reads `source`, checks every tensor's shape against the module that will run it, and writes `out`.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from hmrkit.members import unknown

# name -> (module, function)
CONVERTERS: dict[str, tuple[str, str]] = {
    "yolox-nano": ("hmrkit.conversion.yolox", "convert"),
    "movenet-thunder": ("hmrkit.conversion.movenet", "convert"),
    "blazepose-heavy": ("hmrkit.conversion.blazepose", "convert"),
    "spin": ("hmrkit.conversion.spin", "convert"),
}


def convert(name: str, source: str | Path, out: str | Path) -> None:
    """Run the converter of that name; UsageError lists the known ones."""
    if name not in CONVERTERS:
        raise unknown("network", name, CONVERTERS)
    module, function = CONVERTERS[name]
    getattr(importlib.import_module(module), function)(Path(source), Path(out))
