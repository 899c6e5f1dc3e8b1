"""The results of a comparison: a table for people, JSON for programs."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from nas.comparison import ComparisonConfig
from nas.comparison_run import Results
from trainers.comparison import Outcome
from trainers.tasks import tasks

_METRICS = {"exact": ("% of texts answered without a fault", 100, 1), "bpb": ("bits a byte, less is better", 1, 3)}
"""What a task's metric is called, the factor and the digits after the point with which it is shown."""


def comparison_table(config: ComparisonConfig, results: Results) -> Table:
    """A row for each variant, and one for each scaling with which it was tested again."""
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("model", no_wrap=True)
    for length in config.lengths:
        table.add_column(f"{length:,}", justify="right", no_wrap=True)
    for header in ("n", "params", "s"):
        table.add_column(header, justify="right", no_wrap=True)
    for name, outcomes in results.items():
        good = [outcome for outcome in outcomes if outcome.reason is None]
        if not good:
            table.add_row(Text(name), Text("failed", style="red"))
            continue
        n = str(len(good)) if len(good) == len(outcomes) else f"{len(good)} of {len(outcomes)}"
        seconds = f"{statistics.mean(outcome.seconds for outcome in good):.0f}"
        for scaling in good[0].scores:
            cells = [_cell(config, good, scaling, length) for length in config.lengths]
            about = ["", "", ""] if scaling else [n, f"{good[0].parameters:,}", seconds]
            table.add_row(Text(f"  read with {scaling} scaling" if scaling else name), *cells, *about)
    return table


def comparison_note(config: ComparisonConfig, about: dict[str, str]) -> str:
    """What the columns of :func:`comparison_table` are, and what it ran with."""
    task = _task(config)
    spread = "mean ± standard deviation over n seeds" if config.seeds > 1 else "one seed"
    versions = ", ".join(f"{key} {value}" for key, value in about.items() if value)
    return (
        f"Columns are lengths of test texts in tokens; trained on {task.length:,}, {config.steps:,} steps of "
        f"{config.recipe.batch_size} texts. Values: {_METRICS[task.metric][0]}, {config.tests} texts, {spread}; – "
        f"where there are no positions. act {config.act}. s: seconds of training.\n{versions}"
    )


def outcome_line(config: ComparisonConfig, outcome: Outcome) -> str:
    """One training's scores by length, or the reason why there are none."""
    if outcome.reason is not None:
        return outcome.reason
    return f"{', '.join(_cell(config, [outcome], '', length) for length in config.lengths)} ({outcome.seconds:.0f} s)"


def comparison_json(config: ComparisonConfig, results: Results, about: dict[str, str]) -> str:
    rows = {name: [asdict(outcome) for outcome in outcomes] for name, outcomes in results.items()}
    metric = _task(config).metric
    document = {"config": config.model_dump(), "metric": metric, "environment": about, "results": rows}
    return json.dumps(document, indent=2)


def _cell(config: ComparisonConfig, outcomes: list[Outcome], scaling: str, length: int) -> str:
    values = [value for outcome in outcomes if (value := outcome.scores[scaling][length]) is not None]
    if not values:
        return "–"
    _, scale, digits = _METRICS[_task(config).metric]
    text = f"{statistics.mean(values) * scale:.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values) * scale:.{digits}f}"


def _task(config: ComparisonConfig) -> Any:
    return tasks.get(config.task.name)(**config.task.options)
