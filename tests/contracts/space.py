"""What every search space must do, on a few expressions of each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise

import numpy as np

from search_spaces.expression import from_tokens, number_params, size, tokens
from search_spaces.parser import parse
from search_spaces.space import Choices, SearchSpace


def vectors(space: SearchSpace, prefix: Choices = ()) -> Iterator[Choices]:
    """Every choice vector made of options."""
    if len(prefix) == len(space.cardinalities):
        yield prefix
        return
    for option in space.options(prefix):
        yield from vectors(space, (*prefix, option))


def check_space(space: SearchSpace, draws: int = 150) -> None:
    """Raises AssertionError with what is wrong."""
    rng = np.random.default_rng(0)
    sample = [space.sample(rng) for _ in range(draws)]
    firsts = list(islice(space.enumerate(), draws))
    assert firsts == list(islice(space.enumerate(), draws)), "the order of enumeration changes"
    assert len(set(firsts)) > len(firsts) // 3
    for expression in (*sample, *firsts):
        assert space.contains(expression)
        choices = space.encode(expression)
        assert len(choices) == len(space.cardinalities)
        assert all(0 <= c < n for c, n in zip(choices, space.cardinalities, strict=True))
        assert space.decode(choices) == expression
        assert parse(str(expression)) == expression
        assert from_tokens(tokens(expression)) == expression
        assert number_params(expression) == expression
    _check_moves(space, sample, rng)
    again = np.random.default_rng(0)
    assert [space.sample(again) for _ in range(draws)] == sample, "equal seeds give other samples"
    assert set(tokens(sample[0])) <= set(space.vocabulary(2_000))


def _check_moves(space: SearchSpace, sample: list, rng: np.random.Generator) -> None:
    assert {"change_one", "change_all"} <= set(space.mutations)
    for kind in space.mutations:
        children = [(e, space.mutate_as(kind, e, rng)) for e in sample]
        assert all(space.contains(child) for _, child in children), kind
        if space.size > 1_000:  # in a tiny one a parameter may have nowhere to go
            assert any(child != e for e, child in children), f"{kind} never changes anything"
        if kind == "insert":
            assert all(size(child) >= size(e) for e, child in children)
        if kind == "remove":
            assert all(size(child) <= size(e) for e, child in children)
    assert np.mean([space.mutate(e, rng) != e for e in sample]) > 0.95
    children = [space.crossover(a, b, rng) for a, b in pairwise(sample)]
    assert all(space.contains(child) for child in children)
    assert any(child not in pair for child, pair in zip(children, pairwise(sample), strict=True))
