"""What the figures of a few seeds can say.

Differences are paired: two functions trained with the same seed share initialisation (up to the activation), order of
the data and augmentation. Where many candidates ran, one is ahead by luck; so p values are corrected by Holm (1979)
over all that were in the race. Intervals of means are bootstrapped (BCa, Efron 1987); with five seeds such an interval
covers less than it says, some 85 instead of 95 %.
"""

from __future__ import annotations

import bisect
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats takes half a second to import

LEVEL = 0.95
POWER = 0.8
_MOST_SEEDS = 1000
_DRAWS = 20_000
_CONTENDERS = 20


@dataclass(frozen=True)
class Difference:
    """Of two functions over the seeds that both have.

    Attributes:
        mean: NaN if they share none.
        half_width: of its 95 % interval, by t; NaN for fewer than two seeds, or if all differences are the same number,
            which is no measure of chance.
        p: two-sided, of a paired t test; NaN in the same cases.
        std: standard deviation of the differences.
        n: seeds shared.
    """

    mean: float
    half_width: float
    p: float
    std: float
    n: int


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """``a`` minus ``b``, each by seed; what is NaN, of trainings without a value, does not count."""
    differences = np.array([a[seed] - b[seed] for seed in a if seed in b], float)
    differences = differences[~np.isnan(differences)]
    n = len(differences)
    if n < 2:
        return Difference(float(differences.mean()) if n else math.nan, math.nan, math.nan, math.nan, n)
    mean, std = float(differences.mean()), float(differences.std(ddof=1))
    if _is_nothing(std, float(np.abs(differences).max())):
        return Difference(mean, math.nan, math.nan, std, n)
    half = _quantile(n - 1) * std / math.sqrt(n)
    p = 2 * float(stdtr(n - 1, -abs(mean) * math.sqrt(n) / std))
    return Difference(mean, half, p, std, n)


def _is_nothing(std: float, largest: float) -> bool:
    """Whether a spread is only that of rounding."""
    return std <= 1e-12 * max(1.0, largest)


def _quantile(degrees: int) -> float:
    """Of Student's t, for a two-sided interval."""
    return float(stdtrit(degrees, (1 + LEVEL) / 2))


def holm(p_values: ArrayLike, race: int) -> NDArray[np.float64]:
    """p values corrected by Holm's method (1979): of p_(1) <= p_(2) <= ..., the largest (race - i + 1) p_(i) so far.

    Not by statsmodels, which collects all garbage of the process at every call: 50 to 500 ms.

    Args:
        p_values: of the tests that were made; a NaN stays one.
        race: how many candidates there were, tested or not; those that are not here count as p = 1.

    Raises:
        ValueError: there are more tests than candidates.
    """
    p = np.asarray(p_values, float)
    known = np.flatnonzero(~np.isnan(p))
    if len(known) > race:
        raise ValueError(f"a race has at least as many candidates as were tested: {len(known)} tests, race {race}")
    rising = known[np.argsort(p[known], kind="stable")]
    corrected = np.full(p.shape, math.nan)
    factors = race - np.arange(len(rising))
    corrected[rising] = np.minimum(1, np.maximum.accumulate(factors * p[rising]))
    return corrected


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean, BCa bootstrap of 9,999 resamples, always the same; NaN for fewer than three values."""
    x = np.asarray(values, float)
    x = x[~np.isnan(x)]
    if len(x) < 3:
        return math.nan, math.nan
    if np.ptp(x) == 0:
        return float(x[0]), float(x[0])
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap((x,), np.mean, confidence_level=LEVEL, method="BCa", rng=np.random.default_rng(0))
    low, high = found.confidence_interval
    return float(low), float(high)


def seeds_needed(difference: float, std: float, race: int = 1) -> float:
    """So many matched seeds would show a difference, if it is as large as it looks, with a power of 80 %.

    Args:
        difference: mean of the paired differences.
        std: their standard deviation.
        race: candidates to correct for (Bonferroni: the first step of Holm's method, 0.05 / race).

    Returns:
        At least 2; infinite for more than 1,000; NaN where nothing is known, or where the differences have no spread,
        which is an accident of few seeds.
    """
    from statsmodels.stats.power import TTestPower

    if math.isnan(difference) or math.isnan(std) or _is_nothing(std, abs(difference)):
        return math.nan
    if difference == 0:
        return math.inf
    effect, alpha = abs(difference) / std, (1 - LEVEL) / max(1, race)

    def enough(seeds: int) -> bool:
        # One tail: the other, of a difference in the wrong direction, is next to nothing, and scipy cannot always tell.
        return bool(TTestPower().power(effect, seeds, alpha / 2, alternative="larger") >= POWER)

    high = 2
    while not enough(high):  # from below: far above what is needed the power cannot be computed
        if high >= _MOST_SEEDS:
            return math.inf
        high = min(2 * high, _MOST_SEEDS)
    return bisect.bisect_left(range(high + 1), True, lo=2, key=enough)


@dataclass(frozen=True)
class Noise:
    """How much a result varies from seed to seed, all functions taken together.

    Attributes:
        std: standard deviation of one function's results over seeds, after what the seeds have in common.
        degrees: of freedom.
    """

    std: float
    degrees: int

    def floor(self, seeds: int) -> float:
        """The smallest difference of two functions, of so many matched seeds each, whose 95 % interval excludes 0; NaN
        if nothing is known."""
        if self.degrees < 1:
            return math.nan
        return _quantile(self.degrees) * self.std * math.sqrt(2 / seeds)


def noise(results: pd.DataFrame) -> Noise:
    """The residuals of function + seed (two-way analysis of variance without interaction).

    Args:
        results: a row a function, a column a seed; NaN where there is none. Seeds that are not shared by all functions
            stay what they are: only functions with the most common set of seeds count.
    """
    x = _matched(results)
    functions, seeds = x.shape
    if functions < 2 or seeds < 2:
        return Noise(math.nan, 0)
    degrees = (functions - 1) * (seeds - 1)
    residuals = x - x.mean(1, keepdims=True) - x.mean(0, keepdims=True) + x.mean()
    return Noise(float(np.sqrt((residuals**2).sum() / degrees)), degrees)


def _matched(results: pd.DataFrame) -> NDArray[np.float64]:
    """Functions that have results for the most common set of seeds."""
    if results.empty:
        return np.empty((0, 0))
    present = results.notna()
    patterns = present.apply(tuple, axis=1)
    common = patterns.mode().iloc[0]
    rows = (present.to_numpy() & np.array(common)).sum(1) == sum(common)
    return results.to_numpy(float)[rows][:, np.array(common, bool)]


def probability_best(results: pd.DataFrame) -> pd.Series:
    """How probable it is that a function is the best of all in ``results``, larger being better.

    Means are drawn from their posterior under a flat prior and a common variance: Student's t around what was measured.
    The variance is that of the best 20 (:func:`noise`); one function that nearly diverged would drown all others.

    Args:
        results: as for :func:`noise`.

    Returns:
        By the index of ``results``; NaN where a function has no result, or the noise is unknown.
    """
    means, counts = results.mean(axis=1), results.notna().sum(axis=1)
    known = counts > 0
    measured = noise(results.loc[means.nlargest(_CONTENDERS).index])
    probability = pd.Series(math.nan, index=results.index)
    if measured.degrees < 1 or not known.any():
        return probability
    rng = np.random.default_rng(0)
    z = rng.standard_normal((_DRAWS, int(known.sum())))
    scale = np.sqrt(measured.degrees / rng.chisquare(measured.degrees, (_DRAWS, 1)))
    drawn = means[known].to_numpy() + z * scale * measured.std / np.sqrt(counts[known].to_numpy())
    probability[known] = np.bincount(drawn.argmax(1), minlength=int(known.sum())) / _DRAWS
    return probability
