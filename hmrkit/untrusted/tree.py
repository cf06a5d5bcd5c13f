"""The inert tree that a pickle becomes: names that stay names, and calls and objects that are not made."""

from __future__ import annotations

from typing import Any

from hmrkit.errors import WeightsError


class Name:
    """A class or function that the pickle names, as ``module.name``; never imported."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Made:
    """What calling the named thing with `args` would make; `state` and `items` are what the pickle adds to it."""

    __slots__ = ("args", "items", "name", "state")

    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        self.name, self.args = name, args
        self.state: Any = None
        self.items: list[Any] = []  # key, value, key, value, ... or the elements


class Pairs:
    """A dictionary before its keys are known to be harmless: key, value, key, value, ..."""

    __slots__ = ("items",)

    def __init__(self, items: list[Any]) -> None:
        self.items = items


class Outside:
    """What a file keeps beside its pickle, by its persistent id."""

    __slots__ = ("pid",)

    def __init__(self, pid: Any) -> None:
        self.pid = pid


def refused(what: str) -> WeightsError:
    """The error for a pickle that asks for what no file of numbers needs."""
    return WeightsError(f"{what}, which no file of arrays needs: refused; get the file from its makers")
