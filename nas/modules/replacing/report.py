"""What was replaced, what was left and why, in words."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from dataclasses import dataclass

_MANY = 12


@dataclass(frozen=True)
class Replaced:
    """One place: its name in the model, the modules before and after, and what to know about it."""

    name: str
    old: str
    new: str
    note: str = ""


@dataclass(frozen=True)
class Left:
    """Calls in the forward of one module that stay as they are: the module's name, the calls, and the reason."""

    name: str
    calls: str
    why: str


@dataclass(frozen=True)
class Replacement:
    """What :func:`nas.modules.replace_activations` did; as text, with long lists of names abridged.

    ``new_parameters`` counts tensors: an optimiser that was made before does not know them.
    """

    replaced: tuple[Replaced, ...]
    left: tuple[Left, ...] = ()
    new_parameters: int = 0

    def __str__(self) -> str:
        lines: list[str] = []
        kinds = dict.fromkeys((place.old, place.new) for place in self.replaced)
        for old, new in kinds:
            names = [place.name for place in self.replaced if (place.old, place.new) == (old, new)]
            lines.append(f"{len(names)} x {old} -> {new}")
            lines.extend(_listed(names))
        for note in dict.fromkeys(place.note for place in self.replaced if place.note):
            names = [place.name for place in self.replaced if place.note == note]
            lines.append(f"{note}:")
            lines.extend(_listed(names))
        lines.extend(f"left: {left.calls} in {left.name or 'the model'}: {left.why}" for left in self.left)
        if self.new_parameters:
            lines.append(f"new parameter tensors: {self.new_parameters}; make the optimiser after this")
        return "\n".join(lines)


def _listed(names: list[str]) -> list[str]:
    """Names in lines; many of them by what they have in common, with their number."""
    if len(names) > _MANY:
        alike = Counter(re.sub(r"\d+", "*", name) for name in names)
        names = [name if count == 1 else f"{name} ({count})" for name, count in alike.items()]
    return textwrap.wrap(", ".join(names), 118, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
