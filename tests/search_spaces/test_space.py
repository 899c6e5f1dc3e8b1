"""Every registered space through the contract, published sizes, constraints, and what is refused."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from search_spaces.expression import Call, depth, params, size, walk
from search_spaces.operators import OPERATORS
from search_spaces.parser import parse
from search_spaces.presets import spaces
from search_spaces.shapes import parse_shape
from tests.contracts.space import check_space

CUSTOM = {
    "shapes": ["u(x)", "b(u(x), x)", "n(u(x), x, u(x))"],
    "unary": ["tanh", "sigmoid(beta * x)", "x", "sinc"],
    "binary": ["mul", "max(x1, 0.1 * x2)"],
    "nary": ["add"],
}
EXAMPLES = [
    ("swish2017", {}),
    ("swish2017", {"units": 3}),
    ("three_node", {}),
    ("three_node", {"ready_made": False}),
    ("four_node", {}),
    ("grafs", {}),
    ("tree", {}),
    ("tree", {"max_depth": 6, "max_nodes": 12, "max_params": 0}),
    ("tree", {"operators": ["add", "mul", "tanh", "sigmoid"], "constants": [1, 0.5]}),
    ("custom", CUSTOM),
    ("custom", CUSTOM | {"contains_x": True, "max_complexity": 6, "forbid": ["sinc"]}),
]


@pytest.mark.parametrize(("name", "options"), EXAMPLES, ids=lambda value: value if isinstance(value, str) else None)
def test_contract(name, options):
    check_space(spaces.get(name)(**options))


def test_every_registered_space_is_among_the_examples():
    assert set(spaces.names()) == {name for name, _ in EXAMPLES}


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("swish2017", {}, 6_250),  # section 2 of arXiv 1710.05941
        ("swish2017", {"units": 2}, 39_062_500),  # 3.9e7
        ("three_node", {}, 5_103),
        ("three_node", {"ready_made": False}, 2_527),
        ("four_node", {}, 1_023_516),
        ("grafs", {}, 25**4 * 10**2),
    ],
)
def test_sizes_are_the_published_ones(name, options, count):
    assert spaces.get(name)(**options).size == count


@pytest.mark.parametrize(
    ("name", "options"),
    [("swish2017", {}), ("three_node", {}), ("custom", CUSTOM), ("tree", {"max_nodes": 4, "max_depth": 3})],
)
def test_size_is_the_number_of_enumerated_spellings(name, options):
    space = spaces.get(name)(**options)
    assert sum(1 for _ in space.enumerate()) == space.size


def test_trees_are_enumerated_once_each_and_within_their_limits():
    space = spaces.get("tree")(operators=["add", "tanh", "sin"], max_depth=3, max_nodes=5, max_params=2)
    members = list(space.enumerate())
    assert len(members) == len(set(members)) == space.size
    assert max(len(params(member)) for member in members) == 2
    # x, two operators on top of each other, and sums: worked out by hand for trees without parameters
    plain = [member for member in members if not params(member)]
    by_size = Counter(map(size, plain))
    assert by_size == {1: 1, 2: 2, 3: 4 + 1, 4: 2 + 4, 5: 4 + 2}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("custom", CUSTOM),
        ("tree", {"operators": ["add", "tanh", "sin"], "max_depth": 3, "max_nodes": 5, "max_params": 1}),
    ],
)
def test_samples_are_uniform_over_spellings(name, options):
    """Chi-square against the uniform distribution over all spellings, at 1 in 1,000."""
    space = spaces.get(name)(**options)
    members = Counter(space.enumerate())
    rng = np.random.default_rng(5)
    drawn = Counter(space.sample(rng) for _ in range(100 * space.size))
    assert set(drawn) == set(members)
    observed = [drawn[member] for member in members]
    expected = [100 * count for count in members.values()]
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_x_times_sigmoid_has_three_spellings_without_ready_made_functions():
    """Two products and sigmoid(x) / (1 / x); so uniform draws from 2,527 need 632 on average to meet one."""
    from search_spaces.equivalence import EquivalenceIndex, examine

    members = list(spaces.get("three_node")(ready_made=False).enumerate())
    swish = EquivalenceIndex()
    swish.add(parse("x * sigmoid(x)"))
    rows = examine(members).signatures
    wanted = examine([parse("x * sigmoid(x)")]).signatures[0]
    near = [m for m, row in zip(members, rows, strict=True) if np.abs(row - wanted).max() < 1e-6]
    assert sorted(map(str, near)) == ["sigmoid(x) * x", "sigmoid(x) / (1 / x)", "x * sigmoid(x)"]
    assert all(swish.find(m) for m in near)
    # The smallest of 3 places in a random order of 2,527 is (2,527 + 1) / (3 + 1) on average.
    assert (len(members) + 1) / (len(near) + 1) == 632


def test_a_mutation_changes_one_slot():
    space = spaces.get("swish2017")(units=2)
    rng = np.random.default_rng(2)
    choices = (0, 14, 1, 12, 20, 0, 1)
    parent = space.decode(choices)
    assert space.encode(parent) == choices
    changed = Counter()
    for _ in range(400):
        child = space.encode(space.mutate_as("change_one", parent, rng))
        changed[tuple(i for i, (a, b) in enumerate(zip(child, choices, strict=True)) if a != b)] += 1
    single = {position for positions in changed for position in positions if len(positions) == 1}
    assert single == set(range(1, 7))


def test_parameters_are_added_moved_and_removed():
    rng = np.random.default_rng(1)
    space = spaces.get("tree")(operators=["mul", "sigmoid", "tanh"], max_params=3)
    swish = parse("x * sigmoid(beta * x)")
    assert {str(space.mutate_as("remove_parameter", swish, rng)) for _ in range(20)} == {"x * sigmoid(x)"}
    moved = {str(space.mutate_as("move_parameter", swish, rng)) for _ in range(100)}
    assert moved == {"beta * x * sigmoid(x)", "x * (beta * sigmoid(x))"}
    added = {space.mutate_as("add_parameter", swish, rng) for _ in range(100)}
    assert {len(params(e)) for e in added} == {2}
    assert len(added) == 2


def test_the_deepest_core_units_are_within_the_parsers_limits():
    space = spaces.get("swish2017")(units=8)
    deepest = max(range(25), key=lambda i: depth(space.templates["u"][i]))
    binary = max(range(10), key=lambda i: depth(space.templates["b"][i]))
    expression = space.decode((0, *[deepest] * 16, *[binary] * 8))
    assert parse(str(expression)) == expression


def test_a_tree_has_no_parameter_at_its_root():
    space = spaces.get("tree")(operators=["tanh", "mul"], max_nodes=5)
    assert not space.contains(parse("beta * tanh(x)"))
    assert space.contains(parse("tanh(beta * x)"))
    rng = np.random.default_rng(0)
    default = spaces.get("tree")()
    members = [default.sample(rng) for _ in range(300)]
    children = [default.mutate(m, rng) for m in members] + [default.crossover(a, b, rng) for a, b in pairwise(members)]
    assert all(default.decode(default.encode(child)) == child for child in children)


def test_a_mutation_may_change_the_shape():
    space = spaces.get("four_node")()
    rng = np.random.default_rng(0)
    parent = space.decode((0, 7, 12, 14, 16, 0, 0))
    shapes = {space.encode(space.mutate_as("change_shape", parent, rng))[0] for _ in range(60)}
    assert shapes >= {1, 2, 3, 4}


def test_parameters_of_large_templates_are_all_different():
    template = " + ".join(f"alpha{i} * x" for i in range(11))
    space = spaces.get("custom")(shapes=["u(u(x))"], unary=[template])
    assert len(params(space.decode((0, 0, 0)))) == 22


def test_numbers_are_templates():
    space = spaces.get("custom")(shapes=["b(u(x), u(x))"], unary=["x", 1, 0.5], binary=["add"])
    assert parse("x + 0.5") in list(space.enumerate())


def test_crossover_takes_every_choice_from_a_parent():
    space = spaces.get("swish2017")(units=2)
    rng = np.random.default_rng(3)
    a, b = (0, 14, 1, 12, 20, 0, 1), (0, 12, 20, 15, 23, 1, 0)
    children = {space.encode(space.crossover(space.decode(a), space.decode(b), rng)) for _ in range(200)}
    assert len(children) > 30
    assert all(c in pair for child in children for c, pair in zip(child, zip(a, b, strict=True), strict=True))


def test_every_use_of_a_template_has_its_own_parameter():
    space = spaces.get("swish2017")()
    assert str(space.decode((0, 6, 7, 9))) == "beta * (beta2 * x) + (1 - beta) * (x + beta3)"
    assert not space.contains(parse("beta * x + beta * x"))


def test_constraints_hold_for_every_member():
    space = spaces.get("custom")(**CUSTOM, contains_x=True, max_complexity=5, ready_made=False, forbid=["max"])
    members = list(space.enumerate())
    assert members
    for member in members:
        nodes = list(walk(member))
        assert size(member) <= 5
        assert not any(isinstance(n, Call) and (OPERATORS[n.op].ready_made or n.op == "max") for n in nodes)
    assert not space.contains(parse("max(tanh(x), 0.1 * x)"))


def test_strangers_are_not_members():
    space = spaces.get("swish2017")()
    assert not space.contains(parse("x * sigmoid(2 * x)"))
    assert not space.contains(parse("sin(sin(x)) + x"))
    with pytest.raises(ValueError, match="not in this space"):
        space.encode(parse("x"))
    with pytest.raises(ValueError, match="choice vector"):
        space.decode((10, 0, 0))
    with pytest.raises(ValueError, match="not one tree"):
        spaces.get("tree")(operators=["add"], max_nodes=3).decode((1, 1, 0, 0, 0, 0))
    with pytest.raises(ValueError, match="a mutation here is one of change_one"):
        space.mutate_as("improve", parse("x + x"), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("swish2017", {"units": 0}, "1 to"),
        ("tree", {"operators": ["tanhh"]}, "unknown operator 'tanhh'"),
        ("tree", {"max_nodes": 99}, "max_nodes is 1 to 31"),
        ("tree", {"forbid": ["nope"]}, "unknown operator 'nope'"),
        ("custom", {"shapes": ["u(x)"]}, "no unary templates"),
        ("custom", {"shapes": ["u(y)"], "unary": ["tanh"]}, "expected u, b, n or x, found 'y'"),
        ("custom", {"shapes": ["b(u(x) x)"], "unary": ["tanh"], "binary": ["add"]}, "expected ','"),
        ("custom", {"shapes": ["u(x) x"], "unary": ["tanh"]}, "expected the end"),
        ("custom", {"shapes": ["u(" * 40], "unary": ["tanh"]}, "at most 16 levels"),
        ("custom", {"shapes": ["x"], "unary": ["tanh"]}, "at least one slot"),
        ("custom", {"shapes": [], "unary": ["tanh"]}, "at least one shape"),
        ("custom", {"shapes": ["u(x)"], "unary": ["tanh", "tanh(x)"]}, "there twice"),
        ("custom", {"shapes": ["u(x)"], "unary": ["x1 + 1"]}, "its inputs are x"),
        ("custom", {"shapes": ["u(x)"], "unary": ["x +"]}, "found the end"),
        ("custom", {"shapes": ["u(x)"], "unary": ["add"]}, "takes 2"),
        ("custom", {"shapes": ["u(x)"], "unary": ["tanh"], "forbid": ["tanh"]}, "hardly any expression"),
        ("custom", {"shapes": [f"{'b(' * 16}x{', x)' * 16}"], "binary": ["x1 * x1 * x1 + x2"]}, "at most 1000 nodes"),
        ("custom", {"shapes": [f"{'u(' * 16}x{')' * 16}"], "unary": ["sin(sin(sin(sin(x))))"]}, "64 levels"),
    ],
)
def test_what_is_no_space_is_refused(name, options, message):
    with pytest.raises(ValueError, match="(?s)" + message.replace("(", r"\(")):
        spaces.get(name)(**options)


def test_shapes_read_as_they_are_written():
    cell = parse_shape("b( u(b(u(x),x)), u(x) )")
    assert [slot.kind for slot in cell.slots()] == ["u", "b", "u", "u", "b"]
