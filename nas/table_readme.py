"""The README of a table: what was trained, how, on what, and what its columns mean."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import yaml
from scipy.stats import spearmanr

from analysis.yardstick import FORMAT, FUNCTION_COLUMNS, FUNCTIONS, TRAINING_COLUMNS, TRAININGS, ResultTable
from trainers.trial import METRICS

_SHOWN = 10
_RECIPE_SECTIONS = ("space", "model", "data", "recipe", "trial")


def readme(table: ResultTable) -> str:
    """Markdown."""
    config, about = table.about["config"], table.about
    environment = about.get("environment", {})
    seeds, functions = len(table.seeds), len(table.functions)
    metric = config["search"]["objective"]
    options = " ".join(f"{key}={value}" for key, value in config["space"].items() if key != "name")
    lines = [
        f"# {config['name']}",
        "",
        f"Every function of the space `{config['space']['name']}` {f'({options}) ' if options else ''}that a search "
        f"would train: finite on [-5, 5] with its slope, in float32, and not affine. There are {functions:,} of them, "
        f"equal ones (level `{config['search']['equivalence']}`) counted once, each trained with {seeds} seeds and the "
        f"same learning rate. Of the {functions * seeds:,} trainings {_failures(table)}. Written by `nas table`, "
        f"format {FORMAT}; `nas bench` replays it.",
        "",
        "## How it was made",
        "",
        f"nas {about.get('nas_version')}, begun {about.get('created')}, "
        + ", ".join(
            f"{key} {environment[key]}" for key in ("python", "torch", "device", "processor") if key in environment
        )
        + f", precision {about.get('precision')}; code {environment.get('code')}. "
        f"Training took {_hours(table)} of one worker.",
        "",
        "```yaml",
        yaml.safe_dump({key: config[key] for key in _RECIPE_SECTIONS}, sort_keys=False).strip(),
        "```",
        "",
        "The table is of single results: nothing was pruned, screened or repeated. "
        + _relaxations(about.get("relaxations", [])),
        "",
        "## What is in it",
        "",
        *_ceiling(table),
        "",
        *_best(table, metric),
        "",
        f"`{FUNCTIONS}`, a row a function:",
        "",
        *(f"- `{name}`: {text}" for name, text in FUNCTION_COLUMNS.items()),
        "",
        f"`{TRAININGS}`, a row a training:",
        "",
        *(f"- `{name}`: {text}" for name, text in TRAINING_COLUMNS.items()),
        "",
        "```python",
        "import pandas as pd",
        "",
        f'functions, trainings = pd.read_parquet("{FUNCTIONS}"), pd.read_parquet("{TRAININGS}")',
        f'means = trainings.groupby("function")["{metric}"].mean()',
        'functions.assign(mean=means).sort_values("mean")[["formula", "mean"]]',
        "```",
        "",
    ]
    return "\n".join(lines)


def _failures(table: ResultTable) -> str:
    """How many failed, and of what; the first words of a reason say it."""
    reasons = table.trainings.loc[table.trainings["state"] != "COMPLETE", "reason"].astype(str).str.split(":").str[0]
    if reasons.empty:
        return "none failed"
    return f"{len(reasons):,} failed (" + ", ".join(f"{n:,} {why}" for why, n in reasons.value_counts().items()) + ")"


def _hours(table: ResultTable) -> str:
    minutes = table.trainings["seconds"].sum() / 60
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _relaxations(relaxations: list[dict[str, str]]) -> str:
    if not relaxations:
        return "It holds no relaxations, so `gradient` cannot be replayed."
    return f"It holds the outcome of {len(relaxations)} relaxations, for replays of `gradient`."


def _ceiling(table: ResultTable) -> list[str]:
    """How well one seed ranks the functions as another does: no strategy can be expected to see more."""
    lines = [
        "Spearman's rank correlation between two seeds, mean over pairs of seeds: of all functions that never failed,",
        "and of the better half and the best tenth of them (by the mean over all seeds).",
        "",
        "| metric | all | better half | best tenth |",
        "|---|---|---|---|",
    ]
    for metric in METRICS:
        values = table.values(metric)
        complete = values[~np.isnan(values).any(1)]
        if len(complete) < 20:
            continue
        order = np.argsort(-complete.mean(1))
        parts = [complete, complete[order[: len(order) // 2]], complete[order[: len(order) // 10]]]
        lines.append(f"| {metric} | {' | '.join(map(_agreement, parts))} |")
    return lines


def _agreement(values: np.ndarray) -> str:
    found = rank_agreement(values)
    return "" if np.isnan(found) else f"{found:.2f}"


def rank_agreement(values: np.ndarray) -> float:
    """Mean rank correlation over pairs of columns; NaN for fewer than three rows."""
    if len(values) < 3:
        return float("nan")
    pairs = combinations(range(values.shape[1]), 2)
    return float(np.mean([spearmanr(values[:, a], values[:, b]).statistic for a, b in pairs]))


def _best(table: ResultTable, metric: str) -> list[str]:
    values = table.values(metric) * (1 if METRICS[metric] == "max" else -1)
    mean, std = values.mean(1), values.std(1, ddof=1)  # NaN, and last, where a seed failed
    order = np.argsort(-mean if METRICS[metric] == "max" else mean, kind="stable")
    rank = {int(row): number for number, row in enumerate(order, 1)}
    named = [row for row, name in enumerate(table.functions["name"]) if name in ("ReLU", "SiLU", "tanh")]
    shown = [*map(int, order[:_SHOWN]), *(row for row in sorted(named, key=rank.__getitem__) if rank[row] > _SHOWN)]
    lines = [
        f"The best by {metric}, mean ± standard deviation over seeds:",
        "",
        "| # | function | |  |",
        "|---|---|---|---|",
    ]
    for row in shown:
        formula, like = table.functions["formula"][row], table.functions["likeness"][row]
        figures = "failed with a seed" if np.isnan(mean[row]) else f"{mean[row]:.4f} ± {std[row]:.4f}"
        lines.append(f"| {rank[row]} | `{formula}` | {like if isinstance(like, str) else ''} | {figures} |")
    return lines
