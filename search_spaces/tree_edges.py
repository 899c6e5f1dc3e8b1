"""Trees with learnable parameters on their edges: ``beta * sub`` is the tree ``sub`` with a parameter on its edge.

Nodes are numbered in Polish notation, the root being 0; an edge has the number of the node it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator

from search_spaces.expression import Call, Expression, Param, params, replace


def strip_params(expression: Expression) -> tuple[Expression, set[int]]:
    """The tree without parameters, and the numbers (in Polish notation) of the nodes whose edge carries one."""
    edges: set[int] = set()
    count = 0

    def visit(node: Expression) -> Expression:
        nonlocal count
        if isinstance(node, Call) and node.op == "mul" and isinstance(node.args[0], Param):
            edges.add(count)
            node = node.args[1]
        count += 1
        return Call(node.op, tuple(map(visit, node.args))) if isinstance(node, Call) else node

    return visit(expression), edges


def with_params(tree: Expression, edges: set[int]) -> Expression:
    """The inverse of :func:`strip_params`; parameters are numbered in order of appearance."""
    count = used = 0

    def visit(node: Expression) -> Expression:
        nonlocal count, used
        mine = count in edges
        count += 1
        if mine:
            used += 1
            name = "beta" if used == 1 else f"beta{used}"
        built = Call(node.op, tuple(map(visit, node.args))) if isinstance(node, Call) else node
        return Call("mul", (Param(name), built)) if mine else built

    return visit(tree)


def preorder(expression: Expression, level: int = 1) -> Iterator[tuple[Expression, int]]:
    """Every node before its operands, with its level; the root has level 1."""
    yield expression, level
    if isinstance(expression, Call):
        for arg in expression.args:
            yield from preorder(arg, level + 1)


def replaced(tree: Expression, at: int, new: Expression) -> Expression:
    """The tree with its node number ``at`` (in Polish notation) replaced."""
    count = 0

    def visit(node: Expression) -> Expression:
        nonlocal count
        here, count = count, count + 1
        if here == at:
            count += sum(1 for _ in preorder(node)) - 1
            return new
        return Call(node.op, tuple(map(visit, node.args))) if isinstance(node, Call) else node

    return visit(tree)


def position_with_params(whole: Expression, at: int) -> int:
    """Where node number ``at`` of the stripped tree is in the tree with its parameters."""
    plain = -1
    for position, (node, _) in enumerate(preorder(whole)):
        if isinstance(node, Param):
            continue
        if isinstance(node, Call) and node.op == "mul" and isinstance(node.args[0], Param):
            continue
        plain += 1
        if plain == at:
            return position
    raise IndexError(f"the tree has no node {at}")


def distinct_params(expression: Expression, name: str) -> Expression:
    """The expression with its parameters renamed, so that two expressions share none."""
    return replace(expression, {Param(p): Param(f"{name}{i}") for i, p in enumerate(params(expression))})
