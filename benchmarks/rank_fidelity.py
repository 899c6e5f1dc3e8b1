"""How well does each early signal rank functions as their full training would?

    python benchmarks/rank_fidelity.py [--data digits | --data cifar10 --root DIR] [--functions 120] [--json]

Functions are drawn from the one-unit space of 2017, uniformly over different functions that pass the numeric filter.
Each is trained with two seeds for the whole budget, and once more for the first epochs with the learning rate annealed
within each rung. The figure for a signal is Spearman's rank correlation between the signal with one seed and the final
validation accuracy with the *other* one, averaged over both ways, so that the correlation of the final accuracy with
itself is the ceiling that no signal can be expected to pass. Trainings run side by side, one a core.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from trainers.environment import available_cores
from trainers.trial import METRICS, Component, Recipe, Trial

SEEDS = (0, 1)
RUNGS = (1, 2)
_RESAMPLES = 400
SHOWN = ("train_loss_sum", "train_loss", "val_loss", "val_accuracy")


def draw(count: int, seed: int) -> list[str]:
    """So many different functions of the space, as formulas."""
    from search_spaces.census import FunctionSampler
    from search_spaces.equivalence import rejection
    from search_spaces.presets import spaces

    sampler, rng = FunctionSampler(spaces.get("swish2017")(units=1), trainable=True), np.random.default_rng(seed)
    found: list[str] = []
    while len(found) < count:
        expression = sampler.sample(rng)
        if rejection(expression) is None and str(expression) not in found:
            found.append(str(expression))
    return found


def base_trial(arguments: argparse.Namespace, precision: str) -> Trial:
    if arguments.data == "digits":
        model, data = Component("resnet8", {"width": 8}), Component("digits")
        recipe = Recipe(batch_size=64, learning_rate=0.2)
    else:
        model = Component("resnet8")
        data = Component("cifar10", {"root": arguments.root, "train_size": 6_400, "val_fraction": 0.375})
        recipe = Recipe(batch_size=128, learning_rate=0.1)
    return Trial(
        id=0,
        stage="search",
        expression="x",
        seed=0,
        model=model,
        data=data,
        recipe=recipe,
        budget_epochs=arguments.epochs,
        param_shape="scalar",
        precision=precision,
    )


def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def choose_precision(trial: Trial) -> str:
    """Measured, as a search does it."""
    one_thread()
    from trainers.data import datasets
    from trainers.precision import faster_precision
    from trainers.run import pick_device

    data = datasets.get(trial.data.name)(**trial.data.options)
    return faster_precision(replace(trial, expression="x * sigmoid(x)"), data, pick_device("auto"))


def study(trial: Trial) -> dict[str, Any]:
    """All signals of one function with one seed, and its final accuracy; None where a training failed."""
    import torch

    from trainers.network import Network
    from trainers.run import load_data, pick_device, resident_batches, run_trial
    from trainers.screening import fault, signals

    device, data = pick_device("auto"), trial.data.to_json()
    batches = resident_batches(data, trial.recipe.batch_size, device)
    batch = next(iter(batches.epoch(torch.Generator().manual_seed(trial.seed))))
    initial = signals(Network(trial, load_data(data), device, 0), batch)
    full = run_trial(trial, lambda _: False)
    rungs = run_trial(replace(trial, budget_epochs=RUNGS[-1], anneal_epochs=RUNGS[:-1]), lambda _: False)
    return {
        "expression": trial.expression,
        "seed": trial.seed,
        "initial": asdict(initial),
        "screened": fault(initial),
        "reason": full.reason,
        "history": full.history,
        "annealed": rungs.history,
        "seconds": full.seconds,
    }


def collect(trials: list[Trial], workers: int) -> list[dict[str, Any]]:
    """Study all of them, side by side, saying how far it is."""
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    rows = []
    with ProcessPoolExecutor(workers, context, initializer=one_thread) as pool:
        for row in pool.map(study, trials):
            rows.append(row)
            if len(rows) % 20 == 0:
                print(
                    f"{len(rows)} of {len(trials)} after {time.monotonic() - start:.0f} s", flush=True, file=sys.stderr
                )
    return rows


def signal_table(rows: list[dict[str, Any]]) -> dict[str, Callable[[dict[str, Any]], float]]:
    """Every signal: from a row to a number that is larger for a better function, as far as its name tells."""
    table: dict[str, Callable[[dict[str, Any]], float]] = {}

    def at(history: str, epoch: int, name: str) -> Callable[[dict[str, Any]], float]:
        sign = 1 if METRICS[name] == "max" else -1
        return lambda row: sign * row[history][epoch - 1][name]

    epochs = len(rows[0]["history"])
    table["final val_accuracy, other seed"] = at("history", epochs, "val_accuracy")
    for name in ("loss", "logits_spread", "first_gradient", "gradient_norm"):
        table[f"initialisation: {name}"] = lambda row, name=name: row["initial"][name]
    table["initialisation: first / last gradient"] = lambda row: (
        row["initial"]["first_gradient"] / max(row["initial"]["last_gradient"], 1e-30)
    )
    for epoch in RUNGS:
        for name in SHOWN:
            table[f"epoch {epoch} of {epochs}: {name}"] = at("history", epoch, name)
            table[f"epoch {epoch}, annealed: {name}"] = at("annealed", epoch, name)
    middle = epochs // 2
    for name in SHOWN:
        table[f"epoch {middle} of {epochs}: {name}"] = at("history", middle, name)
    table["sum of all training losses"] = at("history", epochs, "train_loss_sum")
    return table


def correlations(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Spearman of each signal with the final accuracy of the other seed: over all functions, over the better half."""
    by_function: dict[str, dict[int, dict[str, Any]]] = {}
    epochs = max(len(row["history"]) for row in rows)
    for row in rows:
        if row["reason"] is None and len(row["history"]) == epochs and len(row["annealed"]) == RUNGS[-1]:
            by_function.setdefault(row["expression"], {})[row["seed"]] = row
    pairs = [seeds for seeds in by_function.values() if len(seeds) == len(SEEDS)]
    table = signal_table([pairs[0][0]])
    final = table["final val_accuracy, other seed"]
    finals = np.array([[final(pair[seed]) for seed in SEEDS] for pair in pairs])
    better = finals.mean(1) >= np.median(finals.mean(1))
    result = []
    for name, signal in table.items():
        values = np.array([[signal(pair[seed]) for seed in SEEDS] for pair in pairs])
        result.append(
            {
                "signal": name,
                "spearman": crossed(values, finals),
                "interval": interval(values, finals),
                "spearman_better_half": crossed(values[better], finals[better]),
            }
        )
    return result, len(pairs)


def crossed(values: np.ndarray, finals: np.ndarray) -> float:
    """Mean of both rank correlations between a signal with one seed and the result with the other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant signal has no correlation
        both = [spearmanr(values[:, a], finals[:, b]).statistic for a, b in ((0, 1), (1, 0))]
    return float(np.mean(both))


def interval(values: np.ndarray, finals: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of :func:`crossed` over the functions."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(0, len(values), len(values)) for _ in range(_RESAMPLES))
    low, high = np.nanpercentile([crossed(values[draw], finals[draw]) for draw in draws], [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["digits", "cifar10"], default="digits")
    parser.add_argument("--root", default="data", help="CIFAR-10's folder")
    parser.add_argument("--functions", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--json", action="store_true", help="with every training's curve")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="what --json wrote: print it, train nothing")
    arguments = parser.parse_args()
    known = json.loads(arguments.rows.read_text()) if arguments.rows else run(arguments)
    table, complete = correlations(known["rows"])
    figures = known["figures"] | {"complete_with_both_seeds": complete} | screening(known["rows"])
    if arguments.json:
        print(json.dumps({"figures": figures, "correlations": table, "rows": known["rows"]}))
        return
    print(", ".join(f"{key} {value}" for key, value in figures.items()))
    print(f"{'signal':<42} {'all':>5} {'95 % interval':>15} {'better half':>12}")
    for entry in table:
        low, high = entry["interval"]
        shown = f"{entry['spearman']:>5.2f} {low:>7.2f} to {high:>4.2f} {entry['spearman_better_half']:>12.2f}"
        print(f"{entry['signal']:<42} {shown}")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train everything; what was trained, and how."""
    from trainers.environment import environment
    from trainers.run import pick_device

    start = time.monotonic()
    trial = base_trial(arguments, "fp32")
    trial = replace(trial, precision=choose_precision(trial))
    trials = [
        replace(trial, expression=expression, seed=seed)
        for expression in draw(arguments.functions, 0)
        for seed in SEEDS
    ]
    rows = collect(trials, arguments.workers)
    figures = {
        "data": arguments.data,
        "epochs": arguments.epochs,
        "functions": arguments.functions,
        **environment(pick_device("auto"), trial.precision, "table" if trial.precision == "bf16" else "eager"),
        "minutes": round((time.monotonic() - start) / 60, 1),
    }
    return {"figures": figures, "rows": rows}


def screening(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the screen at initialisation would have ended, and the best that it would have lost."""
    screened = [row for row in rows if row["screened"]]
    lost = [row["history"][-1]["val_accuracy"] for row in screened if row["reason"] is None]
    return {
        "trainings": len(rows),
        "failed": sum(row["reason"] is not None for row in rows),
        "screened": len(screened),
        "screened_and_failed": len(screened) - len(lost),
        "best_val_accuracy_among_screened": round(max(lost), 3) if lost else None,
    }


if __name__ == "__main__":
    main()
