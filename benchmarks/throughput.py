"""Candidates an hour through the whole of ``nas search`` on CIFAR-10, beside a plain loop that trains as many steps.

    python benchmarks/throughput.py --root DIR [--model resnet8] [--epochs 2] [--trials 32] [--plain 6] [--json]

Three ways to evaluate functions of the one-unit space of 2017, all with one single-thread process a core:

- ``nas search, equal steps``: random search without pruning, every candidate for all its steps; those that diverged
  before their end are not counted;
- ``nas search``: the same with successive halving after the first epoch and the screen at initialisation, as the
  shipped configurations have it;
- ``plain loop``: benchmarks/plain_loop.py with the functions that the first way trained, and the same validation.

The time of ``nas search`` is that of the whole command: start of Python and of Ray, reading and decoding the images,
measuring the precision, asking, recording. The plain loop's time is that of its trainings and validations alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from analysis.store import Record, Store
from trainers.environment import available_cores, environment
from trainers.trial import Trial


def nas_search(run: Path, arguments: argparse.Namespace, *, pruned: bool) -> tuple[float, list[Record]]:
    """Seconds of the whole command, and what it stored."""
    overrides = [
        f"data.root={arguments.root}",
        f"data.train_size={arguments.images}",
        f"model.name={arguments.model}",
        f"trial.epochs={arguments.epochs}",
        f"search.trials={arguments.trials}",
        f"search.screen={str(pruned).lower()}",
        "pruning.rungs=[1]" if pruned else "pruning=null",
        "strategy={name: random}",
        "retrain.top=0",
        "baselines=[]",
    ]
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "nas", "search", "cifar10_resnet8", *overrides, "--run", str(run)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.monotonic() - start
    with Store.open(run) as store:
        return seconds, store.records()


def train_plainly(trial: Trial) -> float:
    """Seconds of training and validating a function as one would without this project."""
    from plain_loop import PlainLoop

    from trainers.network import build_model
    from trainers.run import load_data

    torch.set_num_threads(1)
    data = load_data(trial.data.to_json())
    model = build_model(replace(trial, precision="fp32"), data)
    total = trial.budget_epochs * (len(data.train_y) // trial.recipe.batch_size)
    start = time.monotonic()
    loop = PlainLoop(model, data, trial.recipe, torch.device("cpu"), total)
    for _ in range(total):
        loop.step()
    model.eval()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (data.mean, data.std))
    with torch.no_grad():
        for x, y in zip(data.val_x.split(512), data.val_y.split(512), strict=True):
            F.cross_entropy(model((x / 255 - mean) / std), y)
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="CIFAR-10's folder")
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--plain", type=int, default=6, help="functions that the plain loop trains")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.root = str(Path(arguments.root).absolute())
    workers = available_cores()
    with tempfile.TemporaryDirectory() as folder:
        equal_seconds, equal = nas_search(Path(folder) / "equal", arguments, pruned=False)
        pruned_seconds, pruned = nas_search(Path(folder) / "pruned", arguments, pruned=True)
    complete = [record.trial for record in equal if record.result and record.result.state == "COMPLETE"]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        plain = list(pool.map(train_plainly, complete[: arguments.plain]))
    plain_rate = 3600 * workers / statistics.mean(plain)
    rows = [
        {"way": way, "candidates": len(records), "minutes": round(seconds / 60, 1), **states(records)}
        | {
            "an_hour": round(3600 * len(records) / seconds),
            "ratio": round(3600 * len(records) / seconds / plain_rate, 2),
        }
        for way, seconds, records in (
            ("nas search, equal steps", equal_seconds, equal),
            ("nas search", pruned_seconds, pruned),
        )
    ]
    rows.append(
        {"way": "plain loop", "candidates": len(plain), "minutes": round(sum(plain) / workers / 60, 1)}
        | {"complete": len(plain), "an_hour": round(plain_rate), "ratio": 1.0}
    )
    about = environment(torch.device("cpu"), complete[0].precision, "table")
    report(rows, {**about, "workers": str(workers), "model": arguments.model}, arguments.json)


def states(records: list[Record]) -> dict[str, int]:
    found = [record.result.state.lower() for record in records if record.result]
    return {state: found.count(state) for state in ("complete", "pruned", "fail")}


def report(rows: list[dict[str, Any]], about: dict[str, str], as_json: bool) -> None:
    """Print a table, or JSON."""
    if as_json:
        print(json.dumps({"environment": about, "rows": rows}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    columns = ("way", "candidates", "complete", "pruned", "fail", "minutes", "an_hour", "ratio")
    print(f"{columns[0]:<25}" + "".join(f"{name:>11}" for name in columns[1:]))
    for row in rows:
        print(f"{row['way']:<25}" + "".join(f"{row.get(name, ''):>11}" for name in columns[1:]))


if __name__ == "__main__":
    main()
