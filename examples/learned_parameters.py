"""What became of a function's learnable parameters? A study keeps results, not networks, so one is trained again.

    python examples/learned_parameters.py RUN [--function RANK] [--setting NAME] [--json]

trains the first confirmed network of that function again, with the same seed, and prints the values that its
activation's parameters have in the end, layer by layer in the order of the model: one number, or, where there is one a
channel, their mean and range. RANK is the function's place on the leaderboard of that setting; the default is the best
confirmed function that has learnable parameters.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch

from analysis.store import Record, Store
from nas import Study
from search_spaces.expression import params
from search_spaces.parser import parse
from trainers.loop import fit, total_steps
from trainers.network import Network
from trainers.run import load_data, resident_batches


def confirmed(run: Path, rank: int | None, setting: str | None) -> Record:
    """The first training that confirmed the function with that rank, or the best one that has something to learn."""
    with Study(run) as study:
        rows = study.leaderboard(setting=setting)
    rows = rows[(rows["stage"] == "confirm") & (rows["state"] == "COMPLETE")]
    learns = rows["expression"].map(lambda text: bool(params(parse(text)))).astype(bool)
    wanted = "confirmed function with learnable parameters" if rank is None else f"confirmed function of rank {rank}"
    chosen = rows[learns] if rank is None else rows[rows["rank"] == rank]
    if chosen.empty:
        raise SystemExit(f"error: {run} has no {wanted} in that setting; nas leaderboard {run} --confirmed lists them")
    if not learns[chosen.index[0]]:
        raise SystemExit(
            f"error: {chosen['formula'].iloc[0]} has no learnable parameters; give another --function RANK"
        )
    key = chosen["function_key"].iloc[0]
    with Store.open(run) as store:
        records = [r for r in store.records() if r.trial.stage == "confirm" and r.trial.setting == setting]
    return min((r for r in records if r.function_key == key), key=lambda record: record.trial.seed)


def learned(record: Record) -> tuple[float, dict[str, dict[str, float | list[float]]]]:
    """Accuracy on the test set, and by the place of an activation the values of its parameters."""
    trial, device = record.trial, torch.device("cpu")
    batches = resident_batches(trial.data.to_json(), trial.recipe.batch_size, device, trial.score_on)
    data = load_data(trial.data.to_json(), trial.score_on)
    network = Network(trial, data, device, total_steps(trial, len(batches)))
    reports: list[dict[str, float]] = []
    fit(network, batches, trial, lambda metrics: bool(reports.append(metrics)))
    names, found = params(parse(trial.expression)), {}
    for path, value in network.model.named_parameters():
        place, _, name = path.rpartition(".")
        if name in names:
            found.setdefault(place, {})[name] = value.tolist()
    return reports[-1]["test_accuracy"], found


def in_words(value: float | list[float]) -> str:
    """A parameter's value, or those of its channels."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{statistics.mean(value):.3f} ({min(value):.3f} to {max(value):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--function", type=int, metavar="RANK")
    parser.add_argument("--setting", metavar="NAME")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)  # as in a worker: sums of another order end in another network
    record = confirmed(args.run, args.function, args.setting)
    accuracy, places = learned(record)
    if args.json:
        print(json.dumps({"formula": record.formula, "test_accuracy": accuracy, "places": places}))
        return
    print(f"{record.formula}: test accuracy {100 * accuracy:.2f} %, seed {record.trial.seed}")
    for place, values in places.items():
        print(f"{place:24}", ", ".join(f"{name} {in_words(value)}" for name, value in values.items()))


if __name__ == "__main__":
    main()
