"""The core-unit space: counts, encoding, and moves that stay inside."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from search_spaces.parser import parse
from search_spaces.presets import spaces


@pytest.fixture(params=[1, 2, 3])
def space(request):
    return spaces.get("swish2017")(units=request.param)


def test_sizes_are_the_papers():
    """25 * 25 * 10 forms of one unit (section 2 of arXiv 1710.05941), 3.9e7 of two chained ones."""
    assert spaces.get("swish2017")(units=1).size == 6_250
    assert spaces.get("swish2017")(units=2).size == 6_250**2 == 39_062_500


def test_one_unit_enumerates_every_spelling_once():
    space = spaces.get("swish2017")()
    everything = list(space.enumerate())
    assert len(everything) == 6_250
    assert parse("x * sigmoid(x)") in everything
    assert parse("sigmoid(beta * x) * x") in everything
    assert all(space.decode(space.encode(e)) == e for e in everything)


def test_enumeration_is_lazy():
    assert len(list(islice(spaces.get("swish2017")(units=6).enumerate(), 10))) == 10


def test_samples_are_members_and_encode(space):
    rng = np.random.default_rng(0)
    for _ in range(100):
        expression = space.sample(rng)
        assert space.contains(expression)
        assert space.decode(space.encode(expression)) == expression


def test_samples_are_uniform_over_the_choices():
    """Chi-square of 5,000 first choices against the uniform distribution, at 1 in 1,000."""
    from scipy import stats

    space = spaces.get("swish2017")()
    rng = np.random.default_rng(1)
    draws = [space.encode(space.sample(rng)) for _ in range(5_000)]
    second = np.bincount([d[1] for d in draws if d[0] == 0], minlength=25)  # sums keep both unary choices
    assert stats.chisquare(second).pvalue > 1e-3


def test_mutation_changes_one_choice_to_another_one():
    space = spaces.get("swish2017")(units=2)
    rng = np.random.default_rng(2)
    choices = (0, 14, 0, 1, 12, 20)
    parent = space.decode(choices)
    assert space.encode(parent) == choices
    seen = set()
    for _ in range(300):
        child = space.mutate(parent, rng)
        assert space.contains(child)
        differing = [i for i, choice in enumerate(space.encode(child)) if choice != choices[i]]
        assert differing  # never the parent again
        seen.update(differing if len(differing) == 1 else ())  # another spelling may encode to other choices
    assert seen == set(range(6))


def test_crossover_takes_every_choice_from_a_parent():
    space = spaces.get("swish2017")(units=2)
    rng = np.random.default_rng(3)
    a, b = (0, 14, 0, 1, 12, 20), (1, 20, 12, 0, 15, 23)
    children = {space.encode(space.crossover(space.decode(a), space.decode(b), rng)) for _ in range(200)}
    assert len(children) > 30
    assert all(c in pair for child in children for c, pair in zip(child, zip(a, b, strict=True), strict=True))


def test_every_use_of_a_template_has_its_own_parameter():
    space = spaces.get("swish2017")()
    assert str(space.decode((9, 6, 7))) == "beta * (beta2 * x) + (1 - beta) * (x + beta3)"


def test_strangers_are_not_members():
    space = spaces.get("swish2017")()
    assert not space.contains(parse("x * sigmoid(2 * x)"))
    assert not space.contains(parse("sin(sin(x)) + x"))
    with pytest.raises(ValueError, match="not in this space"):
        space.encode(parse("x"))
    with pytest.raises(ValueError, match="choice vector"):
        space.decode((10, 0, 0))
    with pytest.raises(ValueError, match="at least 1 unit"):
        spaces.get("swish2017")(units=0)
