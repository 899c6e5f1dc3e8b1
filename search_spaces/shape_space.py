"""Spaces of fixed shapes: ``b(u(x), u(x))`` with every slot filled from a list of templates.

A shape is written with the slots ``u`` (unary), ``b`` (binary), ``n`` (of three operands) and the input ``x``. The core
units of 2017, the three- and four-node spaces and the cell of GRAFS are all of this kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import product
from math import prod

import numpy as np

from search_spaces.expression import Call, Expression, Param, Var, depth, number_params, params, replace, size, walk
from search_spaces.parser import MAX_DEPTH
from search_spaces.shapes import ARITY, Slot, parse_shape
from search_spaces.space import Choices, SearchSpace, check_mutation, random_below
from search_spaces.templates import INPUTS, match, read_templates

_KIND_NAMES = {"u": "unary", "b": "binary", "n": "n-ary"}
_X = Var("x")
_MAX_NODES, _MAX_PARAMS = 1_000, 999
_STRUCTURAL = ("change_one", "change_all")
_PARAMETRIC = ("add_parameter", "move_parameter", "remove_parameter")


class ShapeSpace(SearchSpace):
    """All ways to fill the slots of one of several shapes.

    The choice vector holds the shape, then the templates of its unary, binary and n-ary slots, operands first; what a
    shape does not use is 0. Every use of a template with learnable parameters has its own.

    Raises:
        ValueError: a template or a shape that cannot be read, or a kind of slot without templates.
    """

    def __init__(
        self,
        shapes: Sequence[str],
        unary: Sequence[str | float],
        binary: Sequence[str | float] = (),
        nary: Sequence[str | float] = (),
    ) -> None:
        texts = {"u": unary, "b": binary, "n": nary}
        self.templates = {kind: read_templates(texts[kind], ARITY[kind], _KIND_NAMES[kind]) for kind in ARITY}
        self.shape_texts = tuple(shapes)
        self.shapes = tuple(parse_shape(text) for text in shapes)
        if not self.shapes:
            raise ValueError("a space has at least one shape, such as b(u(x), u(x))")
        for text, shape in zip(shapes, self.shapes, strict=True):
            for slot in shape.slots():
                if not self.templates[slot.kind]:
                    raise ValueError(
                        f"shape {text!r} has a slot {slot.kind}, but no {_KIND_NAMES[slot.kind]} templates"
                    )
            nodes, levels = self._largest(shape)
            if nodes > _MAX_NODES or levels > MAX_DEPTH:
                raise ValueError(
                    f"shape {text!r} has members of {nodes:,} nodes and {levels} levels with these templates; at most "
                    f"{_MAX_NODES} nodes and {MAX_DEPTH} levels can be handled"
                )
        self._per_slot = max(len(params(t)) for rows in self.templates.values() for t in rows)
        if self._per_slot * self._offsets["end"] > _MAX_PARAMS:
            raise ValueError(
                f"a member has at most {_MAX_PARAMS} learnable parameters; use smaller shapes or templates"
            )
        self._has_params = any(params(t) for rows in self.templates.values() for t in rows)
        self._instance = lru_cache(maxsize=None)(self._renamed)

    # --- structure -------------------------------------------------------------------------------------------------

    @cached_property
    def _offsets(self) -> Mapping[str, int]:
        """Where the slots of each kind begin in the choice vector."""
        counts = {k: max(sum(s.kind == k for s in shape.slots()) for shape in self.shapes) for k in ARITY}
        return {"u": 1, "b": 1 + counts["u"], "n": 1 + counts["u"] + counts["b"], "end": 1 + sum(counts.values())}

    def _index(self, slot: Slot) -> int:
        return self._offsets[slot.kind] + slot.position

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        """Number of spellings of every shape."""
        return tuple(prod(len(self.templates[slot.kind]) for slot in shape.slots()) for shape in self.shapes)

    @property
    def size(self) -> int:
        return sum(self._sizes)

    @cached_property
    def cardinalities(self) -> tuple[int, ...]:
        o = self._offsets
        counts = {"u": o["b"] - o["u"], "b": o["n"] - o["b"], "n": o["end"] - o["n"]}
        return (len(self.shapes), *(len(self.templates[kind]) for kind in ARITY for _ in range(counts[kind])))

    @property
    def description(self) -> dict[str, list[str]]:
        rows = {_KIND_NAMES[kind]: [str(t) for t in self.templates[kind]] for kind in ARITY if self.templates[kind]}
        return {"shape": list(self.shape_texts), **rows}

    def _largest(self, slot: Slot) -> tuple[int, int]:
        """Most nodes and most levels of what may stand in a slot, each for itself."""
        below = [(1, 1) if operand is None else self._largest(operand) for operand in slot.operands]
        nodes = levels = 0
        for template in self.templates[slot.kind]:
            inputs = dict(zip(map(Var, INPUTS[ARITY[slot.kind]]), below, strict=True))
            leaves = [inputs[node][0] - 1 for node in walk(template) if isinstance(node, Var)]
            nodes = max(nodes, size(template) + sum(leaves))
            levels = max(levels, depth(template) + max(level for _, level in below) - 1)
        return nodes, levels

    # --- expressions and choices -----------------------------------------------------------------------------------

    def options(self, prefix: Choices) -> Sequence[int]:
        if not prefix:
            return range(len(self.shapes))
        used = len(prefix) in {self._index(slot) for slot in self.shapes[prefix[0]].slots()}
        return range(self.cardinalities[len(prefix)]) if used else (0,)

    def decode(self, choices: Choices) -> Expression:
        limits = self.cardinalities
        if len(choices) != len(limits) or not all(0 <= c < n for c, n in zip(choices, limits, strict=True)):
            raise ValueError(f"a choice vector has {len(limits)} numbers below {limits}, got {choices}")
        return self._numbered(self._build(self.shapes[choices[0]], choices))

    def _build(self, slot: Slot, choices: Choices) -> Expression:
        operands = tuple(_X if operand is None else self._build(operand, choices) for operand in slot.operands)
        return self._place(slot, choices[self._index(slot)], operands)

    def _place(self, slot: Slot, choice: int, operands: tuple[Expression, ...]) -> Expression:
        template = self._instance(slot, choice)
        inputs = INPUTS[ARITY[slot.kind]]
        if isinstance(template, Call) and template.args == tuple(map(Var, inputs)):
            return Call(template.op, operands)  # most templates are a bare operator
        return replace(template, {Var(name): operand for name, operand in zip(inputs, operands, strict=True)})

    def _renamed(self, slot: Slot, choice: int) -> Expression:
        """The template with parameters that no other slot uses."""
        template = self.templates[slot.kind][choice]
        first = self._per_slot * self._index(slot)
        return replace(template, {Param(n): Param(f"gamma{first + i}") for i, n in enumerate(params(template))})

    def _numbered(self, expression: Expression) -> Expression:
        return number_params(expression) if self._has_params else expression

    def encode(self, expression: Expression) -> Choices:
        wanted = number_params(expression)
        for number, shape in enumerate(self.shapes):
            for found in self._matches(shape, wanted):
                choices = [number, *[0] * (len(self.cardinalities) - 1)]
                for index, choice in found:
                    choices[index] = choice
                if self.decode(tuple(choices)) == wanted:  # templates may not share a parameter
                    return tuple(choices)
        raise ValueError(f"{expression} is not in this space")

    def _matches(self, slot: Slot, expression: Expression) -> Iterator[tuple[tuple[int, int], ...]]:
        """All ways in which the expression fills the slot and those below, as (index, choice) pairs."""
        for choice, template in enumerate(self.templates[slot.kind]):
            bound = match(template, expression)
            if bound is None:
                continue
            below: list[list[tuple[tuple[int, int], ...]]] = []
            for name, operand in zip(INPUTS[ARITY[slot.kind]], slot.operands, strict=True):
                inner = bound.get(Var(name))
                if inner is None:  # an input that the template does not use may be anything: choice 0 stands for all
                    below.append([()])
                elif operand is None:
                    below.append([()] if inner == _X else [])
                else:
                    below.append(list(self._matches(operand, inner)))
            for parts in product(*below):
                yield (*(pair for part in parts for pair in part), (self._index(slot), choice))

    def enumerate(self) -> Iterator[Expression]:
        """Shape by shape; the outermost operator varies fastest, so that neighbours share their operands."""
        for shape in self.shapes:
            yield from map(self._numbered, self._members(shape))

    def _members(self, slot: Slot) -> Iterator[Expression]:
        choices = range(len(self.templates[slot.kind]))
        for operands in self._operand_lists(slot.operands):
            for choice in choices:
                yield self._place(slot, choice, operands)

    def _operand_lists(self, operands: tuple[Slot | None, ...]) -> Iterator[tuple[Expression, ...]]:
        if not operands:
            yield ()
            return
        first, *others = operands
        for head in [_X] if first is None else self._members(first):
            for rest in self._operand_lists(tuple(others)):
                yield (head, *rest)

    # --- moves -----------------------------------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Expression:
        draw = random_below(rng, self.size)
        shape = 0
        while draw >= self._sizes[shape]:
            draw -= self._sizes[shape]
            shape += 1
        return self.decode(self._random_choices(shape, rng))

    def _random_choices(self, shape: int, rng: np.random.Generator) -> Choices:
        return (shape, *(int(rng.integers(n)) for n in self.cardinalities[1:]))

    @cached_property
    def mutations(self) -> tuple[str, ...]:
        slots = [sum(1 for _ in shape.slots()) for shape in self.shapes]
        resize = ("insert", "remove") if len(set(slots)) > 1 else ()
        reshape = ("change_shape",) if len(slots) > 1 else ()
        return (*_STRUCTURAL, *reshape, *resize, *(_PARAMETRIC if self._has_params else ()))

    def mutate_as(self, kind: str, expression: Expression, rng: np.random.Generator) -> Expression:
        check_mutation(kind, self.mutations)
        choices = self.encode(expression)
        if kind == "change_all":
            return self.decode(self._random_choices(choices[0], rng))
        if kind in ("change_shape", "insert", "remove"):
            options = self._reshaped(choices, kind, rng)
        else:
            options = self._changed(choices, kind, rng)
        return self.decode(options[int(rng.integers(len(options)))]) if options else expression

    def _reshaped(self, choices: Choices, kind: str, rng: np.random.Generator) -> list[Choices]:
        """The same choices in every other shape, of more or fewer slots if so wanted; new slots are random."""
        slots = [list(shape.slots()) for shape in self.shapes]
        used = {self._index(slot) for slot in slots[choices[0]]}
        fresh = self._random_choices(choices[0], rng)
        filled = [choice if i in used else fresh[i] for i, choice in enumerate(choices)]
        here = len(slots[choices[0]])
        more = {"change_shape": 0, "insert": 1, "remove": -1}[kind]
        wanted = [s for s, there in enumerate(slots) if s != choices[0] and (len(there) - here) * more >= abs(more)]
        return [(s, *filled[1:]) for s in wanted]

    def _changed(self, choices: Choices, kind: str, rng: np.random.Generator) -> list[Choices]:
        """Vectors that differ in one slot (two for a moved parameter), as the kind of mutation wants it."""
        slots = list(self.shapes[choices[0]].slots())
        if kind == "change_one":  # a slot first, then its template: few binary ones weigh as much as many unary ones
            free = [slot for slot in slots if len(self.templates[slot.kind]) > 1]
            if not free:
                return []
            return self._with_other(choices, free[int(rng.integers(len(free)))])
        everywhere = {slot: self._with_other(choices, slot) for slot in slots}
        gains = {slot: self._gain(choices, slot, 1, everywhere[slot]) for slot in slots}
        losses = {slot: self._gain(choices, slot, -1, everywhere[slot]) for slot in slots}
        if kind == "add_parameter":
            return [v for vectors in gains.values() for v in vectors]
        if kind == "remove_parameter":
            return [v for vectors in losses.values() for v in vectors]
        return [
            tuple(w[i] if i == self._index(there) else c for i, c in enumerate(v))
            for here, fewer in losses.items()
            for there, more in gains.items()
            if here != there
            for v in fewer
            for w in more
        ]

    def _with_other(self, choices: Choices, slot: Slot) -> list[Choices]:
        index = self._index(slot)
        return [
            (*choices[:index], c, *choices[index + 1 :])
            for c in range(len(self.templates[slot.kind]))
            if c != choices[index]
        ]

    def _gain(self, choices: Choices, slot: Slot, sign: int, vectors: list[Choices]) -> list[Choices]:
        """Those of the vectors whose slot has more (sign 1) or fewer (-1) learnable parameters than now."""
        counts = [len(params(template)) for template in self.templates[slot.kind]]
        now, index = counts[choices[self._index(slot)]], self._index(slot)
        return [v for v in vectors if sign * (counts[v[index]] - now) > 0]

    def crossover(self, a: Expression, b: Expression, rng: np.random.Generator) -> Expression:
        """Uniform: the shape of one parent, and every slot of it from either."""
        pairs = zip(self.encode(a), self.encode(b), strict=True)
        return self.decode(tuple(pair[int(rng.integers(2))] for pair in pairs))
