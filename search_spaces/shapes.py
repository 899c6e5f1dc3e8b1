"""Shapes: ``b(u(x), u(x))`` as a tree of slots u (unary), b (binary) and n (of three operands) over the input x."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

ARITY = {"u": 1, "b": 2, "n": 3}


@dataclass(frozen=True)
class Slot:
    """A node of a shape: where it stands among the slots of its kind, and what its operands are (None: the input)."""

    kind: str
    position: int
    operands: tuple[Slot | None, ...]

    def slots(self) -> Iterator[Slot]:
        """The slots below and this one, operands first."""
        for operand in self.operands:
            if operand is not None:
                yield from operand.slots()
        yield self


def parse_shape(text: str) -> Slot:
    """Read ``b(u(x), u(x))``. Raises ValueError for anything else than slots u, b, n and the input x."""
    parts = re.findall(r"\s*([ubnx(),]|\S)", text)
    used = dict.fromkeys(ARITY, 0)
    position = 0

    def fail(wanted: str) -> ValueError:
        found = repr(parts[position]) if position < len(parts) else "the end"
        return ValueError(
            f"shape {text!r}: expected {wanted}, found {found}; a shape is made of u(.), b(., .), n(., ., .) and x"
        )

    def take(wanted: str) -> None:
        nonlocal position
        if position >= len(parts) or parts[position] != wanted:
            raise fail(repr(wanted))
        position += 1

    def node(depth: int) -> Slot | None:
        nonlocal position
        if depth > 16:
            raise ValueError(f"shape {text[:40]!r}...: a shape has at most 16 levels")
        if position < len(parts) and parts[position] == "x":
            position += 1
            return None
        if position >= len(parts) or parts[position] not in ARITY:
            raise fail("u, b, n or x")
        kind = parts[position]
        position += 1
        take("(")
        operands = [node(depth + 1)]
        for _ in range(ARITY[kind] - 1):
            take(",")
            operands.append(node(depth + 1))
        take(")")
        used[kind] += 1
        return Slot(kind, used[kind] - 1, tuple(operands))

    root = node(0)
    if position < len(parts):
        raise fail("the end")
    if root is None:
        raise ValueError(f"shape {text!r}: a shape has at least one slot")
    return root
