"""Counting functions: the published counts, exactly, and the counting itself against brute force."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from search_spaces.census import FunctionSampler, merge, pick, take_census
from search_spaces.compile import to_function
from search_spaces.presets import spaces


def test_three_node_counts_are_the_published_ones():
    census = take_census(spaces.get("three_node")())
    assert (census.spellings, census.functions, census.finite, census.trainable) == (5_103, 2_791, 2_414, 2_401)
    assert len(census.representatives) == 2_791
    assert census.is_trainable.sum() == 2_401


def test_exact_float32_equality_finds_false_differences():
    """The published 2,913 or so: float32 values on 1,000 draws with equal bits, instead of within a tolerance."""
    x = torch.from_numpy(np.clip(np.random.default_rng(0).standard_normal(1000), -5, 5)).float()
    rows = {to_function(e)(x).nan_to_num(nan=1e30).numpy().tobytes() for e in spaces.get("three_node")().enumerate()}
    assert len(rows) == pytest.approx(2_913, rel=0.03)
    assert len(rows) > 2_791


@pytest.mark.slow
def test_four_node_is_counted_in_minutes():
    census = take_census(spaces.get("four_node")())
    assert census.spellings == 1_023_516
    assert 385_000 < census.functions < 390_000
    assert census.seconds < 180
    assert census.peak_mb < 4_000


def test_a_census_agrees_with_brute_force():
    """All pairs of 400 functions, compared by numpy on another grid."""
    space = spaces.get("custom")(
        shapes=["b(u(x), u(x))"],
        unary=["x", "-x", "abs", "tanh", "relu", "min(x, 0)", "sigmoid", "square", "0", "1"],
        binary=["add", "sub", "mul", "max"],
    )
    x = torch.linspace(-7, 7, 400, dtype=torch.float64)
    values = np.array([to_function(e)(x).numpy() for e in space.enumerate()])
    classes: list[np.ndarray] = []
    for row in values:
        if not any(np.allclose(row, other, rtol=1e-7, atol=1e-9) for other in classes):
            classes.append(row)
    assert take_census(space).functions == len(classes)


def test_coarser_levels_have_fewer_functions():
    counts = [take_census(spaces.get("three_node")(), level).functions for level in ("exact", "reflection", "affine")]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 3


def test_merging_splits_at_gaps_in_any_column():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, 4))
    centres[100:] = centres[:100]
    centres[100:, 2] += 1e-3  # differ in the third column alone
    rows = np.repeat(centres, 3, axis=0) + rng.uniform(-1e-9, 1e-9, size=(600, 4))
    order = rng.permutation(600)
    labels = merge(rows[order])
    truth = np.repeat(np.arange(200), 3)[order]
    pairs = {(a, b) for a, b in zip(labels, truth, strict=True)}
    assert len(pairs) == len(set(labels)) == 200
    assert len(merge(np.empty((0, 4)))) == 0


def test_representatives_are_the_simplest_spellings():
    space = spaces.get("three_node")()
    census = take_census(space)
    chosen = {str(expression) for _, expression in pick(space, census.representatives)}
    assert "x * sigmoid(x)" not in chosen  # 1 * silu(x) is as short, and comes first
    assert len(chosen) == census.functions
    assert sum(c.spellings for c in census.largest) < census.spellings
    assert [c.spellings for c in census.largest] == sorted((c.spellings for c in census.largest), reverse=True)


def test_functions_are_drawn_uniformly():
    space = spaces.get("custom")(shapes=["b(u(x), u(x))"], unary=["x", "0", "tanh"], binary=["add", "mul", "max"])
    sampler = FunctionSampler(space)
    rng = np.random.default_rng(1)
    drawn = Counter(sampler.sample(rng) for _ in range(200 * len(sampler.functions)))
    assert set(drawn) == set(sampler.functions)
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3
    trainable = FunctionSampler(space, trainable=True).functions
    assert len(trainable) < len(sampler.functions)


def test_a_space_too_large_is_refused():
    with pytest.raises(ValueError, match="enumerated up to"):
        take_census(spaces.get("swish2017")(units=2))
