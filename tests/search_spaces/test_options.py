"""What may come next in a choice vector, and enumeration in order of size."""

from __future__ import annotations

import ast
import contextlib
import tracemalloc
from collections import Counter
from itertools import islice, pairwise, product

import numpy as np
import pytest

from search_spaces.expression import params, size
from search_spaces.parser import parse
from search_spaces.presets import spaces
from search_spaces.space import Choices
from tests.contracts.space import vectors

SHAPES = {
    "shapes": ["u(x)", "b(u(x), x)", "n(u(x), x, b(u(x), u(x)))", "u(u(x))"],
    "unary": ["tanh", "sigmoid(beta * x)", "x", "1"],
    "binary": ["mul", "max(x1, 0.1 * x2)", "x1 * 2"],
    "nary": ["add", "x1 - x3"],
}
TREES = {"operators": ["add", "mul", "tanh", "sin"], "max_depth": 3, "max_nodes": 5, "max_params": 2}
SMALL = [
    ("custom", SHAPES),
    ("custom", {"shapes": ["u(x)"], "unary": ["tanh"]}),
    ("tree", TREES),
    ("tree", TREES | {"max_nodes": 4, "max_params": 0, "operators": ["tanh", "max"]}),
    ("tree", {"operators": ["tanh", "sin"], "max_depth": 4, "max_nodes": 4, "max_params": 3}),
    ("tree", {"operators": ["add"], "max_depth": 2, "max_nodes": 7, "max_params": 1}),
]
LARGE = [("swish2017", {"units": 3}), ("four_node", {}), ("grafs", {}), ("tree", {}), ("tree", {"max_nodes": 15})]


def ids(value: object) -> str | None:
    return value if isinstance(value, str) else None


@pytest.mark.parametrize(("name", "options"), SMALL, ids=ids)
def test_options_lead_to_every_member_and_to_nothing_else(name, options):
    """Against brute force: all vectors within the cardinalities, of which decode takes the members'."""
    space = spaces.get(name)(**options)
    found = list(vectors(space))
    assert len(found) == len(set(found))
    assert {space.decode(choices) for choices in found} == set(space.enumerate())
    assert {space.encode(member) for member in space.enumerate()} <= set(found)
    assert len(found) == space.size  # what a shape does not use is no choice
    if np.prod(space.cardinalities) <= 60_000 and name == "tree":
        decoded = set()
        for choices in product(*map(range, space.cardinalities)):
            try:
                space.decode(choices)
            except ValueError:
                continue
            decoded.add(choices)
        assert set(found) <= decoded
        assert {space.encode(space.decode(choices)) for choices in decoded} == set(found)


@pytest.mark.parametrize(("name", "options"), SMALL + LARGE, ids=ids)
def test_a_random_walk_through_options_is_a_member(name, options):
    space = spaces.get(name)(**options)
    rng = np.random.default_rng(0)
    for _ in range(60):
        choices: Choices = ()
        for cardinality in space.cardinalities:
            allowed = list(space.options(choices))
            assert allowed
            assert all(a < b for a, b in pairwise(allowed))
            assert 0 <= allowed[0] <= allowed[-1] < cardinality
            choices += (allowed[int(rng.integers(len(allowed)))],)
        member = space.decode(choices)
        assert space.contains(member)
        assert space.decode(space.encode(member)) == member
        assert parse(str(member)) == member


@pytest.mark.parametrize(("name", "options"), SMALL + LARGE, ids=ids)
def test_a_sampled_members_vector_is_made_of_options(name, options):
    space = spaces.get(name)(**options)
    rng = np.random.default_rng(1)
    for _ in range(40):
        choices = space.encode(space.sample(rng))
        assert all(choice in space.options(choices[:i]) for i, choice in enumerate(choices))


def test_a_constrained_space_has_the_options_of_the_whole_one():
    """Some of its vectors are refused, and only those whose expression breaks the constraint."""
    space = spaces.get("custom")(**SHAPES, max_complexity=4)
    members = set()
    for choices in vectors(space):
        with contextlib.suppress(ValueError):
            members.add(space.decode(choices))
    whole = spaces.get("custom")(**SHAPES)
    assert members == {member for member in whole.enumerate() if size(member) <= 4} == set(space.enumerate())


def test_a_tree_ends_when_it_may_not_grow():
    """Operators x, add, mul, tanh, sin are 1, 4, 5, 2, 3 by arity: symbols are leaves, unary, then binary ones."""
    space = spaces.get("tree")(**TREES)
    symbols = ["end", *map(str, space.symbols)]
    names = lambda *prefix: {symbols[i] for i in space.options([symbols.index(p) for p in prefix])}  # noqa: E731
    everything = {"x", "tanh", "sin", "add", "mul"}
    assert names() == everything
    assert names("x") == {"end"}
    assert names("x", "end") == {"end"}
    assert names("tanh", "sin") == {"x"}  # three levels at most
    assert names("add") == everything
    assert names("add", "mul") == {"x"}
    assert names("add", "mul", "x", "x") == {"x"}  # five nodes at most
    assert names("add", "x") == everything
    assert names("add", "tanh", "x") == {"x", "tanh", "sin"}  # a binary one would be six


def test_edges_rise_and_end():
    space = spaces.get("tree")(**TREES)
    tree = space.encode(parse("tanh(x + x)"))[:5]
    assert tree[4] == 0
    assert list(space.options(tree)) == [0, 1, 2, 3]
    assert list(space.options((*tree, 2))) == [0, 3]
    assert list(space.options((*tree, 3))) == [0]
    assert list(space.options((*tree, 0))) == [0]
    assert str(space.decode((*tree, 1, 3))) == "tanh(beta * (x + beta2 * x))"


# --- enumeration in order of size -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [*SMALL, ("three_node", {"ready_made": False}), ("custom", SHAPES | {"max_complexity": 4})],
    ids=ids,
)
def test_every_spelling_comes_once_and_small_ones_first(name, options):
    space = spaces.get(name)(**options)
    found = list(space.enumerate_by_size())
    nodes = [len(nodes_of(str(member))) for member in found[:200]]
    assert nodes == sorted(nodes)
    sizes = list(map(size, found))
    assert sizes == sorted(sizes)
    assert Counter(found) == Counter(space.enumerate())
    assert [params(member) for member in found] == [params(parse(str(member))) for member in found]


def nodes_of(text: str) -> list[str]:
    """The nodes of a printed expression as Python's grammar sees it; ``x ** 2`` and ``x ** 3`` are one operator."""
    nodes = []
    for node in ast.walk(ast.parse(text, mode="eval")):
        power = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant)
        if power and node.right.value in (2, 3):
            node.right.value = None  # no operand
        if isinstance(node, ast.Constant) and node.value is None:
            continue
        if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
            continue  # -2 is a number
        if isinstance(node, ast.Call | ast.BinOp | ast.UnaryOp | ast.Constant):
            nodes.append(type(node).__name__)
        elif isinstance(node, ast.Name) and node.id.startswith(("x", "beta")):
            nodes.append(node.id)
    return nodes


def test_nothing_is_kept_in_memory():
    space = spaces.get("tree")(operators=["add", "mul", "tanh", "sin"], max_depth=4, max_nodes=6, max_params=2)
    assert space.size > 2_000
    first = next(space.enumerate_by_size())  # what is cached by then is not counted
    tracemalloc.start()
    peaks = []
    for _ in range(3):  # other threads of the process, such as a progress bar's, allocate at times
        tracemalloc.reset_peak()
        found = list(islice(space.enumerate_by_size(), 3))
        peaks.append(tracemalloc.get_traced_memory()[1])
    peak = min(peaks)
    everything = list(space.enumerate())
    whole, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[0] == first == parse("x")
    assert len(everything) == space.size
    assert peak < whole / 20
