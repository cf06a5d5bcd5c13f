"""What a family's table says of each member: the same few facts in all families.

A table is a literal dict name -> `Member`. The member's module is imported only when it is chosen.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol, TypeVar

from hmrkit.errors import UsageError, WeightsError


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member of a family.

    `argument` says what must follow ``name:``, [in brackets] where it may be left out, empty where nothing may;
    `weights` are the shipped files that it reads; `licence` is that of its network or library; `for_tests` hides it
    from lists and help texts. `recipe` is the module that trains it (`hmrkit.training.recipes`), "" where nothing does.
    `published` says of a network without weights of its own which file users bring, and where they get it; `backbones`
    are those that it can stand on, () all.
    """

    module: str
    summary: str
    paper: str = ""
    licence: str = "Apache-2.0"
    argument: str = ""
    class_name: str = ""
    weights: tuple[str, ...] = ()
    for_tests: bool = False
    recipe: str = ""
    published: str = ""
    backbones: tuple[str, ...] = ()

    def load_module(self) -> ModuleType:
        """The member's module, imported now."""
        return importlib.import_module(self.module)

    def load_recipe(self) -> ModuleType:
        """The module that trains it, imported now."""
        return importlib.import_module(self.recipe)


Range = tuple[float, float]
RATES: Range = (1e-4, 1e6)  # frames per second: from time lapse to the fastest cameras


def check_number(flag: str, value: float | None, allowed: Range) -> None:
    """UsageError where the number that an option got is not one, is infinite, or lies outside `allowed`, ends
    included. None, an option that was not given, passes. The one check of all numeric options."""
    low, high = allowed
    if value is not None and not low <= value <= high:  # NaN is nowhere
        text = f"{value:g}" if isinstance(value, float) else str(value)[:40]
        raise UsageError(f"{flag} must be a number from {low:g} to {high:g}, got {text}")


def unknown(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not among those `known`: all of them, and the one that was probably meant."""
    known = list(known)
    lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), lower, 1)
    meant = f"; did you mean {lower[near[0]]}?" if near else ""
    return UsageError(f"unknown {what} {name!r}; choose one of {', '.join(known)}{meant}")


def refuse_without_checkpoint(member: Member, name: str) -> None:
    """WeightsError where a member has no weights of its own; for where no checkpoint was given."""
    if member.published:
        raise WeightsError(f"{name} has no weights of its own; give --checkpoint FILE: {member.published}")


class Listed(Protocol):
    """What a table's lines have in common with methods."""

    @property
    def for_tests(self) -> bool: ...
    @property
    def argument(self) -> str: ...


Line = TypeVar("Line", bound=Listed)


def visible(table: Mapping[str, Line]) -> dict[str, Line]:
    """The members that users choose from: all but those for tests."""
    return {name: member for name, member in table.items() if not member.for_tests}


def choose(table: Mapping[str, Line], spec: str, family: str) -> tuple[Line, str]:
    """The member that `spec` (``name`` or ``name:argument``) names, and the argument ("" where none was given).

    UsageError where `family` has no such member, or the argument is missing or too much.
    """
    name, _, argument = spec.partition(":")
    if name not in table:
        raise unknown(family, name, visible(table))
    member = table[name]
    must = bool(member.argument) and not member.argument.startswith("[")
    if (argument and not member.argument) or (must and not argument):
        wanted = f"{name}:<{member.argument}>" if member.argument else name
        raise UsageError(f"{family} {spec!r} should be written {wanted}")
    return member, argument


def names_of(text: str) -> tuple[str, ...]:
    """``"npz, obj"`` -> its names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
