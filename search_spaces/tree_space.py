"""Trees of any operators up to a depth and a number of nodes, with learnable parameters on their edges.

After Bingham and Miikkulainen 2022, "Discovering Parametric Activation Functions" (arXiv 2006.03179): a parameter on an
edge scales what flows along it, ``beta * sub``. Edges lead from every node but the root to the node that uses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations
from math import comb

import numpy as np

from search_spaces.expression import Call, Const, Expression, Param, Var, number_params
from search_spaces.operators import OPERATORS
from search_spaces.space import Choices, SearchSpace, check_mutation, check_operators, random_below
from search_spaces.tree_edges import (
    distinct_params,
    position_with_params,
    preorder,
    replaced,
    strip_params,
    with_params,
)

_TRIES = 50
MAX_NODES = 31


class TreeSpace(SearchSpace):
    """All trees over the given operators and leaves, with at most ``max_params`` edges carrying a parameter.

    ``max_nodes`` and ``max_depth`` count operators and leaves; a parameter on an edge adds neither. The choice vector
    holds the operators and leaves in Polish notation (0 after the end), then the edges with a parameter in rising
    order, numbered by the node they come from (0 for none).

    Raises:
        ValueError: an unknown operator, or limits that allow no tree.
    """

    def __init__(
        self, operators: Sequence[str], max_depth: int, max_nodes: int, max_params: int, constants: Sequence[float] = ()
    ) -> None:
        check_operators(operators)
        if not 1 <= max_nodes <= MAX_NODES or max_depth < 1:
            raise ValueError(f"max_nodes is 1 to {MAX_NODES} and max_depth at least 1, got {max_nodes} and {max_depth}")
        self.by_arity = {a: tuple(n for n in dict.fromkeys(operators) if OPERATORS[n].arity == a) for a in (1, 2)}
        self.leaves: tuple[Expression, ...] = (Var("x"), *map(Const, dict.fromkeys(constants)))
        self.symbols: tuple[str | Expression, ...] = (*self.leaves, *self.by_arity[1], *self.by_arity[2])
        self.max_depth, self.max_nodes, self.max_params = max_depth, max_nodes, max_params
        self._count = cache(self._trees_of)

    # --- counting --------------------------------------------------------------------------------------------------

    def _trees_of(self, nodes: int, depth: int) -> int:
        """Number of trees, without parameters, of exactly that many nodes and at most that depth."""
        if depth < 1 or nodes < 1:
            return 0
        if nodes == 1:
            return len(self.leaves)
        binary = sum(self._count(i, depth - 1) * self._count(nodes - 1 - i, depth - 1) for i in range(1, nodes - 1))
        return len(self.by_arity[1]) * self._count(nodes - 1, depth - 1) + len(self.by_arity[2]) * binary

    def _placements(self, nodes: int) -> int:
        """Ways to put parameters on the edges of a tree of so many nodes."""
        return sum(comb(nodes - 1, k) for k in range(self.max_params + 1))

    @property
    def size(self) -> int:
        return sum(self._count(n, self.max_depth) * self._placements(n) for n in range(1, self.max_nodes + 1))

    @property
    def cardinalities(self) -> tuple[int, ...]:
        return (len(self.symbols) + 1,) * self.max_nodes + (self.max_nodes,) * self.max_params

    @property
    def description(self) -> dict[str, list[str]]:
        limits = f"at most {self.max_nodes} nodes, {self.max_depth} levels, {self.max_params} parameters on edges"
        return {
            "shape": [f"any tree of {limits}"],
            "unary": list(self.by_arity[1]),
            "binary": list(self.by_arity[2]),
            "leaves": [str(leaf) for leaf in self.leaves],
        }

    # --- expressions and choices -----------------------------------------------------------------------------------

    def options(self, prefix: Choices) -> Sequence[int]:
        if len(prefix) >= self.max_nodes:
            return self._edge_options(prefix)
        levels = [1]  # of the places that are still open, the next one last
        for choice in prefix:
            if not levels:
                return (0,)
            level = levels.pop()
            levels += [level + 1] * self._arity(choice)
        if not levels:
            return (0,)
        deeper, spare = levels[-1] < self.max_depth, self.max_nodes - len(prefix) - len(levels)
        arities = [self._arity(choice) for choice in range(1, len(self.symbols) + 1)]
        return [c for c, arity in enumerate(arities, 1) if arity == 0 or (deeper and arity <= spare)]

    def _edge_options(self, prefix: Choices) -> Sequence[int]:
        """0 for no further parameter, or the edges after the last one."""
        nodes, edges = sum(map(bool, prefix[: self.max_nodes])), prefix[self.max_nodes :]
        if edges and edges[-1] == 0:
            return (0,)
        return (0, *range(edges[-1] + 1 if edges else 1, nodes))

    def _arity(self, choice: int) -> int:
        symbol = self.symbols[choice - 1]
        return 0 if isinstance(symbol, Expression) else OPERATORS[symbol].arity

    def decode(self, choices: Choices) -> Expression:
        if len(choices) != len(self.cardinalities) or not all(
            0 <= c < n for c, n in zip(choices, self.cardinalities, strict=True)
        ):
            raise ValueError(f"a choice vector has {len(self.cardinalities)} numbers, got {choices}")
        symbols = choices[: self.max_nodes]
        edges = [c for c in choices[self.max_nodes :] if c]
        tree, used = self._read(symbols, 0)
        if any(symbols[used:]) or edges != sorted(set(edges)) or any(e >= used for e in edges):
            raise ValueError(f"choices {choices} are not one tree with parameters on different edges")
        member = number_params(with_params(tree, set(edges)))
        self.encode(member)  # refuses one that is too deep
        return member

    def _read(self, symbols: Sequence[int], at: int) -> tuple[Expression, int]:
        if at >= len(symbols) or symbols[at] == 0:
            raise ValueError("the choices end within a tree")
        symbol = self.symbols[symbols[at] - 1]
        at += 1
        if isinstance(symbol, Expression):
            return symbol, at
        operands = []
        for _ in range(OPERATORS[symbol].arity):
            operand, at = self._read(symbols, at)
            operands.append(operand)
        return Call(symbol, tuple(operands)), at

    def encode(self, expression: Expression) -> Choices:
        tree, edges = strip_params(expression)
        nodes = list(preorder(tree))
        numbers = {symbol: i for i, symbol in enumerate(self.symbols, 1)}
        symbols = [node.op if isinstance(node, Call) else node for node, _ in nodes]
        foreign = [str(s) for s in symbols if s not in numbers]
        deepest = max(level for _, level in nodes)
        if 0 in edges:
            raise ValueError(f"{expression} is not in this space: no edge leads from the root, so it has no parameter")
        if foreign or len(nodes) > self.max_nodes or deepest > self.max_depth or len(edges) > self.max_params:
            why = f"with {', '.join(foreign)}" if foreign else f"{len(nodes)} nodes, {deepest} levels"
            raise ValueError(f"{expression} is not in this space ({why}, {len(edges)} parameters)")
        if with_params(tree, edges) != number_params(expression):
            raise ValueError(f"{expression} is not in this space: every parameter stands on one edge, as beta * (...)")
        padding = [0] * (self.max_nodes - len(nodes))
        return (*(numbers[s] for s in symbols), *padding, *sorted(edges), *[0] * (self.max_params - len(edges)))

    def enumerate(self) -> Iterator[Expression]:
        """Small trees first; of one tree, the spelling without parameters first."""
        for nodes in range(1, self.max_nodes + 1):
            for tree in self._trees(nodes, self.max_depth):
                for k in range(self.max_params + 1):
                    for edges in combinations(range(1, nodes), k):
                        yield with_params(tree, set(edges)) if edges else tree

    def _trees(self, nodes: int, depth: int) -> Iterator[Expression]:
        if not self._count(nodes, depth):
            return
        if nodes == 1:
            yield from self.leaves
            return
        if self.by_arity[1]:
            for operand in self._trees(nodes - 1, depth - 1):
                for op in self.by_arity[1]:
                    yield Call(op, (operand,))
        if self.by_arity[2]:
            for left_nodes in range(1, nodes - 1):
                for left in self._trees(left_nodes, depth - 1):
                    for right in self._trees(nodes - 1 - left_nodes, depth - 1):
                        for op in self.by_arity[2]:
                            yield Call(op, (left, right))

    # --- moves -----------------------------------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Expression:
        """Uniform over spellings, by counting the trees below every choice."""
        draw = random_below(rng, self.size)
        nodes = 1
        while draw >= (weight := self._count(nodes, self.max_depth) * self._placements(nodes)):
            draw -= weight
            nodes += 1
        tree = self._random_tree(nodes, self.max_depth, rng)
        placement = random_below(rng, self._placements(nodes))
        k = 0
        while placement >= comb(nodes - 1, k):
            placement -= comb(nodes - 1, k)
            k += 1
        edges = rng.choice(np.arange(1, nodes), size=k, replace=False) if k else ()
        return with_params(tree, {int(e) for e in edges})

    def _random_tree(self, nodes: int, depth: int, rng: np.random.Generator) -> Expression:
        """Uniform over the trees of exactly that many nodes and at most that depth."""
        draw = random_below(rng, self._count(nodes, depth))
        if nodes == 1:
            return self.leaves[draw]
        unary = len(self.by_arity[1]) * self._count(nodes - 1, depth - 1)
        if draw < unary:
            op = self.by_arity[1][draw % len(self.by_arity[1])]
            return Call(op, (self._random_tree(nodes - 1, depth - 1, rng),))
        draw -= unary
        left = 1
        while draw >= (
            n := len(self.by_arity[2]) * self._count(left, depth - 1) * self._count(nodes - 1 - left, depth - 1)
        ):
            draw -= n
            left += 1
        op = self.by_arity[2][draw % len(self.by_arity[2])]
        operands = (self._random_tree(left, depth - 1, rng), self._random_tree(nodes - 1 - left, depth - 1, rng))
        return Call(op, operands)

    @property
    def mutations(self) -> tuple[str, ...]:
        parametric = ("add_parameter", "move_parameter", "remove_parameter") if self.max_params else ()
        return ("change_one", "change_all", "insert", "remove", *parametric)

    def mutate_as(self, kind: str, expression: Expression, rng: np.random.Generator) -> Expression:
        check_mutation(kind, self.mutations)
        tree, edges = strip_params(expression)
        for _ in range(_TRIES):
            child = self._mutated(tree, edges, kind, rng)
            if child is not None and child != expression and self.contains(child):
                return child
        return expression

    def _mutated(self, tree: Expression, edges: set[int], kind: str, rng: np.random.Generator) -> Expression | None:
        """One attempt; None or a stranger to the space if it did not work out."""
        nodes = [node for node, _ in preorder(tree)]
        free = sorted(set(range(1, len(nodes))) - edges)
        if kind == "change_all":
            return with_params(self._refilled(tree, rng), edges)
        if kind in ("add_parameter", "move_parameter", "remove_parameter"):
            kept = set(edges)
            if kind != "add_parameter" and kept:
                kept.discard(sorted(kept)[int(rng.integers(len(kept)))])
            elif kind != "add_parameter":
                return None
            if kind != "remove_parameter":
                if not free:
                    return None
                kept.add(free[int(rng.integers(len(free)))])
            return with_params(tree, kept)
        at = int(rng.integers(len(nodes)))
        node = nodes[at]
        if kind == "change_one":
            return with_params(replaced(tree, at, self._relabelled(node, rng)), edges)
        # Inserting and removing renumber the edges, so parameters stay with their subtrees in the expression itself.
        whole = with_params(tree, edges)
        where = position_with_params(whole, at)
        target = [n for n, _ in preorder(whole)][where]
        if kind == "insert":
            return number_params(replaced(whole, where, self._grown(target, rng)))
        if not isinstance(node, Call) or not isinstance(target, Call):
            return None
        return number_params(replaced(whole, where, target.args[int(rng.integers(len(target.args)))]))

    def _relabelled(self, node: Expression, rng: np.random.Generator) -> Expression:
        """Another operator of the same arity (or another leaf)."""
        if isinstance(node, Call):
            others = [op for op in self.by_arity[len(node.args)] if op != node.op]
            return Call(others[int(rng.integers(len(others)))], node.args) if others else node
        return self.leaves[int(rng.integers(len(self.leaves)))]

    def _refilled(self, tree: Expression, rng: np.random.Generator) -> Expression:
        """The same shape with new operators and leaves throughout."""
        if isinstance(tree, Call):
            ops = self.by_arity[len(tree.args)]
            return Call(ops[int(rng.integers(len(ops)))], tuple(self._refilled(arg, rng) for arg in tree.args))
        return self.leaves[int(rng.integers(len(self.leaves)))]

    def _grown(self, node: Expression, rng: np.random.Generator) -> Expression:
        """The node under a new operator; the other operand of a binary one is a leaf."""
        ops = (*self.by_arity[1], *self.by_arity[2])
        op = ops[int(rng.integers(len(ops)))]
        if OPERATORS[op].arity == 1:
            return Call(op, (node,))
        pair = (node, self.leaves[int(rng.integers(len(self.leaves)))])
        return Call(op, pair if rng.integers(2) else pair[::-1])

    def crossover(self, a: Expression, b: Expression, rng: np.random.Generator) -> Expression:
        """A subtree of one parent takes the place of a subtree of the other, with its parameters."""
        whole, donor = distinct_params(a, "gamma"), distinct_params(b, "delta")
        parts = [node for node, _ in preorder(donor) if not isinstance(node, Param)]
        places = [i for i, (node, _) in enumerate(preorder(whole)) if not isinstance(node, Param)]
        for _ in range(_TRIES):
            place = places[int(rng.integers(len(places)))]
            child = number_params(replaced(whole, place, parts[int(rng.integers(len(parts)))]))
            if self.contains(child):
                return child
        return a
