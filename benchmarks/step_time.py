"""How long a training step takes with a costly candidate, beside ReLU, SiLU, torch.compile and a plain loop.

    python benchmarks/step_time.py [--models resnet8 resnet20] [--precision auto] [--steps 10] [--json]

All variants are built first; then they take turns, a step each, so that whatever else the machine does hits all of
them. The images are random: a step costs the same for any. ``plain loop`` is benchmarks/plain_loop.py; the others are
this project's training step, data on the device, with the activation as said.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from plain_loop import PlainLoop
from torch import nn

from search_spaces.compile import ExpressionActivation, to_function
from search_spaces.parser import parse
from trainers.batches import Batch, Batches, make_batches
from trainers.data import Images, hold_out
from trainers.environment import environment, keep_freed_memory
from trainers.network import Network, build_model
from trainers.precision import faster_precision
from trainers.run import pick_device
from trainers.trial import Component, Recipe, Trial

CANDIDATE = "atan(x)*sigmoid(1.7*x) + 0.1*x*exp(-x**2)"
Step = Callable[[], object]
_LONG = 100_000  # steps of a training for which everything pays


def random_images(n: int = 2_000) -> Images:
    """Images of the shape of CIFAR-10's."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return hold_out(x, torch.arange(n) % 10, 0.1, crop_padding=4, flip=True)


def trial(model: str, expression: str, precision: str) -> Trial:
    return Trial(
        id=1,
        stage="search",
        expression=expression,
        seed=0,
        model=Component(model),
        data=Component("cifar10"),
        recipe=Recipe(batch_size=128, learning_rate=0.01),
        budget_epochs=1,
        precision=precision,
    )


def forever(batches: Batches) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield from batches.epoch(generator)


class _Compiled(nn.Module):
    """The candidate compiled for itself, as one would without tables."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def variants(model: str, precision: str, device: torch.device) -> dict[str, Step]:
    """A training step of each variant."""
    data = random_images()
    candidate = parse(CANDIDATE)
    compiled = torch.compile(to_function(candidate), dynamic=True)
    acts = {
        "candidate (ours)": None,
        "ReLU": nn.ReLU,
        "SiLU": nn.SiLU,
        "candidate, torch.compile": lambda: _Compiled(compiled),
        "candidate, eager": lambda: ExpressionActivation(candidate),
    }

    def step_of(network: Network) -> Step:
        network.model.train()
        batches = forever(make_batches(data, 128, device))
        return lambda: network.step(next(batches), 0.01)

    one = trial(model, CANDIDATE, precision)
    steps = {
        name: step_of(Network(one, data, device, 0 if act else _LONG, act=act))  # the others stay as they are given
        for name, act in acts.items()
    }
    swish = replace(trial(model, "x * sigmoid(beta * x)", precision), param_shape="scalar")
    steps["Swish, learnable beta (ours)"] = step_of(Network(swish, data, device, _LONG))
    plain_model = build_model(trial(model, CANDIDATE, "fp32"), data)
    plain = PlainLoop(plain_model, data, one.recipe, device, 1_000_000)
    return steps | {"plain loop": plain.step}


def measure(steps: dict[str, Step], rounds: int, device: torch.device) -> dict[str, float]:
    """Median milliseconds of a step."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:  # the first compile, choose algorithms and capture
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet8", "resnet20"])
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as a worker has it
    keep_freed_memory()
    device = pick_device(arguments.device)
    rows = []
    for model in arguments.models:
        precision = arguments.precision
        if precision == "auto":
            precision = faster_precision(trial(model, CANDIDATE, "fp32"), random_images(), device)
        times = measure(variants(model, precision, device), arguments.steps, device)
        for name, milliseconds in times.items():
            rows.append(
                {
                    "model": model,
                    "variant": name,
                    "precision": "fp32" if name == "plain loop" else precision,
                    "ms_a_step": round(milliseconds, 1),
                    "images_a_second": round(128_000 / milliseconds),
                    "to_relu": round(milliseconds / times["ReLU"], 3),
                    "speed_to_plain_loop": round(times["plain loop"] / milliseconds, 2),
                }
            )
    report(rows, environment(device, "", "table"), arguments.json)


def report(rows: list[dict[str, object]], about: dict[str, str], as_json: bool) -> None:
    """Print a table, or JSON."""
    if as_json:
        print(json.dumps({"environment": about, "rows": rows}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in about.items() if value))
    print(f"{'model':<9} {'variant':<29} {'':<5} {'ms/step':>8} {'images/s':>9} {'/ ReLU':>7} {'x plain':>8}")
    for r in rows:
        print(
            f"{r['model']:<9} {r['variant']:<29} {r['precision']:<5} {r['ms_a_step']:>8} {r['images_a_second']:>9} "
            f"{r['to_relu']:>7} {r['speed_to_plain_loop']:>8}"
        )


if __name__ == "__main__":
    main()
