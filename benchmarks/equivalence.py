"""Deciding equality: expressions a second by value, beside sympy.simplify on the same sample.

    python benchmarks/equivalence.py [--space three_node] [--sample 60] [--seed 0] [--json]

Values: the whole census of the space (f and f' on 576 points, signatures, classes), and one expression at a time as a
search does it. sympy: simplify() of the sample, each within a time limit, after which it counts with that limit. Also
prints how many functions exact equality of float32 values finds, which is the published count's method.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from typing import Any

import numpy as np
import torch

from search_spaces.census import take_census
from search_spaces.compile import to_function
from search_spaces.equivalence import EquivalenceIndex
from search_spaces.expression import Expression, params
from search_spaces.presets import spaces
from search_spaces.sympy_bridge import to_sympy

_LIMIT = 20.0  # seconds for one simplify()


def _simplify(texts: list[Any], sender: Any) -> None:
    import sympy

    for form in texts:
        start = time.perf_counter()
        sympy.simplify(form)
        sender.send(time.perf_counter() - start)


def sympy_seconds(sample: list[Expression]) -> list[float]:
    """Seconds of simplify() for each, at most the limit; every overrun costs a new process."""
    forms = [to_sympy(expression) for expression in sample]
    times: list[float] = []
    while len(times) < len(forms):
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=_simplify, args=(forms[len(times) :], sender), daemon=True)
        process.start()
        sender.close()
        try:
            while len(times) < len(forms) and receiver.poll(_LIMIT):
                times.append(receiver.recv())
            if len(times) < len(forms):
                times.append(_LIMIT)
        except EOFError:  # it crashed, by recursion for one
            times.append(_LIMIT)
        process.kill()
        process.join()
    return times


def exact_float32(space: Any) -> int:
    """Different functions by equal float32 bits on 1,000 draws of N(0,1) clipped to ±5."""
    x = torch.from_numpy(np.clip(np.random.default_rng(0).standard_normal(1000), -5, 5)).float()
    return len({to_function(e)(x).nan_to_num(nan=1e30).numpy().tobytes() for e in space.enumerate()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="three_node")
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = spaces.get(arguments.space)()
    take_census(spaces.get("swish2017")())  # warms up
    census = take_census(space)
    rng = np.random.default_rng(arguments.seed)
    sample = [space.sample(rng) for _ in range(arguments.sample)]
    start = time.perf_counter()
    index = EquivalenceIndex()
    for expression in sample:
        index.add(expression)
    single = (time.perf_counter() - start) / len(sample)
    times = sympy_seconds(sample)
    by_census = census.seconds / census.spellings
    figures = {
        "space": arguments.space,
        "spellings": census.spellings,
        "functions": census.functions,
        "functions_exact_float32": exact_float32(space) if not any(params(e) for e in sample) else None,
        "census_expressions_per_s": round(1 / by_census),
        "one_at_a_time_expressions_per_s": round(1 / single),
        "simplify_expressions_per_s": round(len(times) / sum(times), 2),
        "simplify_median_ms": round(1000 * statistics.median(times), 1),
        "simplify_p95_s": round(float(np.quantile(times, 0.95)), 2),
        "simplify_over_limit": sum(t >= _LIMIT for t in times),
        "ratio_census_to_simplify": round(sum(times) / len(times) / by_census),
        "ratio_one_at_a_time_to_simplify": round(sum(times) / len(times) / single),
    }
    print(
        json.dumps(figures) if arguments.json else "\n".join(f"{name:<34} {value}" for name, value in figures.items())
    )


if __name__ == "__main__":
    main()
