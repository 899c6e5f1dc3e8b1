"""What ``nas bench`` prints: two tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from analysis.figures.plots import FORMATS, plot_replays
from analysis.replays import CHECKPOINTS, SWISH, Figures, holm, paired_test
from analysis.yardstick import TableError
from nas.bench import SIMPLE, Bench, Entrant

Results = Mapping[Entrant, Figures]
_DRAWN = {"one of the best 1 %": "top 1 %", "a Swish": SWISH}


def comparison_tables(results: Results, seconds: Mapping[Entrant, float]) -> Group:
    """Regret, paired tests of it, and evaluations until the targets; the smallest of every column is bold."""
    return Group(_regret_table(results), Text(""), _test_table(results), Text(""), _target_table(results, seconds))


def checkpoints(results: Results) -> list[int]:
    """Those that the replays reach, and their end."""
    end = next(iter(results.values())).regret.shape[1]
    return [*(c for c in CHECKPOINTS if c < end), end]


def _table(first: str, *headers: str) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _regret_table(results: Results) -> Table:
    marks = checkpoints(results)
    table = _table("regret after", *(f"{mark} evaluations" if mark == marks[0] else str(mark) for mark in marks))
    means = {e: [f.regret_at(mark).mean() for mark in marks] for e, f in results.items()}
    smallest = [min(values[i] for values in means.values()) for i in range(len(marks))]
    for entrant, figures in results.items():
        cells = [
            Text(f"{mean:.4f}{_interval(figures, mark)}", style="bold" if mean <= least else "")
            for mark, mean, least in zip(marks, means[entrant], smallest, strict=True)
        ]
        table.add_row(entrant.label, *cells)
    return table


def _test_table(results: Results) -> Table:
    compared = list(dict.fromkeys(b for b in (_named(results, "random"), best_simple(results)) if b is not None))
    tests = {b: tests_against(results, b) for b in compared}
    table = _table("mean regret", *(f"against {b.label}" for b in compared))
    for entrant in results if compared else ():
        table.add_row(entrant.label, *(_test(tests[b].get(entrant)) for b in compared))
    return table


def _target_table(results: Results, seconds: Mapping[Entrant, float]) -> Table:
    targets = list(next(iter(results.values())).hits)
    table = _table("evaluations until", *targets, "ms a proposal")
    least = {target: min(f.median_hit(target) for f in results.values()) for target in targets}
    for entrant, figures in results.items():
        cells = []
        for target in targets:
            median = figures.median_hit(target)
            shown = "-" if math.isinf(median) else f"{median:.1f}"
            style = "bold" if median <= least[target] and math.isfinite(median) else ""
            cells.append(Text(f"{shown:>6}  {100 * figures.hit_rate(target):3.0f} %", style=style))
        table.add_row(entrant.label, *cells, f"{1000 * seconds[entrant]:.1f}")
    return table


def _named(results: Results, name: str) -> Entrant | None:
    return next((entrant for entrant in results if entrant.label == name), None)


def best_simple(results: Results) -> Entrant | None:
    """Of the strategies without a model, the one with the least regret, averaged over all evaluations."""
    simple = [entrant for entrant in results if entrant.label in SIMPLE]
    return min(simple, key=lambda entrant: results[entrant].regret.mean(), default=None)


def tests_against(results: Results, baseline: Entrant) -> dict[Entrant, tuple[float, float]]:
    """Mean difference to the baseline in the regret averaged over all evaluations, and p, corrected by Holm."""
    theirs = results[baseline].regret.mean(1)
    others = [entrant for entrant in results if entrant != baseline]
    ours = [results[entrant].regret.mean(1) for entrant in others]
    p_values = holm([paired_test(mine, theirs) for mine in ours])
    return {e: (float((mine - theirs).mean()), p) for e, mine, p in zip(others, ours, p_values, strict=True)}


def _interval(figures: Figures, evaluations: int) -> str:
    """Half of the 95 % interval, or as much space."""
    half = _half_width(figures, evaluations)
    return " " * len(" ± 0.0000") if math.isnan(half) else f" ± {half:.4f}"


def _half_width(figures: Figures, evaluations: int) -> float:
    """Of the 95 % interval of the mean regret; NaN for a strategy without chance, whose replays are all alike."""
    values = figures.regret_at(evaluations)
    if len(values) < 2 or not figures.by_chance:
        return math.nan
    return float(1.96 * values.std(ddof=1) / math.sqrt(len(values)))


def _test(found: tuple[float, float] | None) -> Text:
    if found is None:
        return Text("reference", style="dim")
    difference, p = found
    style = "" if p >= 0.05 else "green" if difference < 0 else "red"
    return Text(f"{difference:+.4f} {'p<0.001' if p < 0.001 else f'p={p:.3f}'}", style=style)


def note(bench: Bench) -> str:
    """What the figures are."""
    facts = bench.facts
    others = len(facts["seeds"]) - 1
    return (
        f"{facts['table']}: {facts['functions']} functions, {others + 1} seeds, {bench.replays} replays of every "
        f"strategy, by {facts['metric']}. A strategy sees one seed; functions are judged by "
        f"{'their mean over ' if others > 1 else ''}the other {others if others > 1 else 'one'}. A function's standard "
        f"deviation over seeds is {facts['noise']:.4f} among the better half. Regret: how much worse than the best of "
        "all the function is that looked best by then, at most as the median; mean ± 95 % interval, where replays "
        f"differ by more than their seed. Whoever evaluates every function ends at {bench.judge.regret_of_all:.4f}, "
        "since one seed picks the best. Mean regret: averaged over all evaluations; its difference, with Wilcoxon's "
        "signed-rank test in pairs, corrected by Holm. Intervals and p: of a strategy's own chance, on this table. "
        "Evaluations until a function of the target was first evaluated: median, and in how many replays it was. "
        f"{_swish(bench)}A replay evaluates one function at a time, without pruning and screen."
        + ("" if any(e.name == "gradient" for e in bench.entrants) else " Not replayed: gradient.")
    )


def _swish(bench: Bench) -> str:
    counts = {len(bench.judge.truth(i).targets.get(SWISH, ())) for i in range(len(bench.table.seeds))}
    if counts == {0}:
        return ""
    number = " to ".join(map(str, sorted({min(counts), max(counts)})))
    return (
        f"{SWISH}: {number} functions, SiLU and those that dip below 0 and vanish as it does and are not worse than it "
        "beyond the noise. "
    )


def as_json(results: Results, seconds: Mapping[Entrant, float], facts: Mapping[str, Any]) -> str:
    """Every replay's hits and its regret at the checkpoints."""
    marks = checkpoints(results)
    entries = [
        {
            "strategy": entrant.name,
            "options": entrant.options,
            "seconds_per_proposal": seconds[entrant],
            "regret": {str(mark): figures.regret_at(mark).tolist() for mark in marks},
            "mean_regret": figures.regret.mean(1).tolist(),
            "evaluations_until": {
                target: [None if math.isinf(hit) else int(hit) for hit in hits] for target, hits in figures.hits.items()
            },
        }
        for entrant, figures in results.items()
    ]
    baseline = best_simple(results)
    simple = None if baseline is None else baseline.label
    return json.dumps({**facts, "best_simple": simple, "strategies": entries}, indent=1)


def check_plot(path: Path) -> None:
    """Raises TableError for a file that cannot become a plot; better before the replays than after them."""
    if path.suffix.lower() not in FORMATS:
        raise TableError(f"a plot ends in {', '.join(FORMATS)}, got {path.name!r}")
    if not path.parent.is_dir():
        raise TableError(f"{path} cannot be written: there is no folder {path.parent}")


def draw(results: Results, path: Path) -> None:
    """Regret and found targets over evaluations.

    Raises:
        TableError: the file cannot be written.
    """
    targets = next(iter(results.values())).hits
    shown = {name: target for name, target in _DRAWN.items() if target in targets}
    try:
        plot_replays(mean_curves(results), {n: found_curves(results, t) for n, t in shown.items()}, path)
    except OSError as error:
        raise TableError(f"{path} cannot be written ({error.strerror or error})") from error


def mean_curves(results: Results) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    """Label to the mean regret after every evaluation and the half-width of its 95 % interval."""
    return {
        entrant.label: (
            figures.regret.mean(0).tolist(),
            [_half_width(figures, n) for n in range(1, figures.regret.shape[1] + 1)],
        )
        for entrant, figures in results.items()
    }


def found_curves(results: Results, target: str) -> dict[str, Sequence[float]]:
    """Label to the share of replays that had evaluated a function of the target, after every evaluation."""
    return {
        entrant.label: [float((figures.hits[target] <= n).mean()) for n in range(1, figures.regret.shape[1] + 1)]
        for entrant, figures in results.items()
    }
