"""On a GPU: the child training of the 2017 search, and the table look-up beside the memory's bandwidth.

    python benchmarks/gpu_child.py [--steps 10000] [--root DIR] [--json]

The child is a ResNet-20 on CIFAR-10 (random images without --root), 10,000 steps of 128 images. ``eager`` is the usual
way: the formula operator by operator in fp32, and in bf16; ``table`` looks the activation up; ``table + graph``
replays a captured step, as a search does. A few hundred steps of each way are timed, after its first ones, and scaled
up; the last way is run for all its steps. ``next candidate`` is what it costs to make the captured network that of
another function.

The look-up's bandwidth counts 4 bytes an element forward (read x, write y) and 6 backward (read x and dy, write dx),
and stands beside a copy in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from step_time import CANDIDATE, forever, random_images, trial

from nas.modules.activations import TableActivation, refresh
from nas.modules.activations.lookup import backend
from search_spaces.compile import ExpressionActivation, to_function
from search_spaces.parser import parse
from trainers.batches import make_batches
from trainers.data import Images, datasets
from trainers.environment import environment
from trainers.network import Network

_TIMED = 300
_ELEMENTS = 128 * 16 * 32 * 32 * 16


def seconds_of(action: Callable[[], object], repeats: int) -> float:
    """Seconds of one action, with the device's work included."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        action()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def child(data: Images, steps: int, device: torch.device) -> list[dict[str, Any]]:
    """Seconds for the whole child training, each way."""
    table = trial("resnet20", CANDIDATE, "bf16")
    eager = lambda: ExpressionActivation(parse(CANDIDATE))  # noqa: E731
    ways = {
        "eager, fp32": Network(replace(table, precision="fp32"), data, device, 0, act=eager),
        "eager, bf16": Network(table, data, device, 0, act=eager),
        "ReLU, bf16": Network(table, data, device, 0, act=torch.nn.ReLU),
        "table, bf16": Network(table, data, device, 0, graph=False),
        "table + graph, bf16": Network(table, data, device, 0),
    }
    rows: list[dict[str, Any]] = []
    for name, network in ways.items():
        network.model.train()
        batches = forever(make_batches(data, 128, device))

        def step(network: Network = network, batches: Any = batches) -> object:
            return network.step(next(batches), 0.01)

        seconds_of(step, 20)
        rows.append({"way": name, "seconds": round(steps * seconds_of(step, _TIMED), 1)})
    start = time.perf_counter()
    network.restart(replace(table, expression="x * tanh(softplus(x))"))
    refresh(network.tables, device)
    torch.cuda.synchronize()
    rows.append({"way": "next candidate", "seconds": round(time.perf_counter() - start, 4)})
    rows.append({"way": f"table + graph, all {steps} steps", "seconds": round(steps * seconds_of(step, steps), 1)})
    first = rows[0]["seconds"]
    trainings = [row for row in rows if row["way"] != "next candidate"]
    return [row | {"speed_to_eager_fp32": round(first / row["seconds"], 2) if row in trainings else ""} for row in rows]


def kernel(device: torch.device) -> list[dict[str, Any]]:
    """Gigabytes a second of the look-up, and of what it is measured by."""
    x = torch.randn(_ELEMENTS, device=device).bfloat16()
    y, dy = torch.empty_like(x), torch.randn_like(x)
    act = TableActivation(to_function(parse(CANDIDATE))).to(device)
    act(x)
    values, slopes = act.tables(device)[0], act.tables(device)[1][0]
    look_up = backend(device)
    actions: dict[str, tuple[int, Callable[[], object]]] = {
        "copy": (4, lambda: y.copy_(x)),
        f"table forward ({look_up.name})": (4, lambda: look_up.forward(x, values)),
        f"table backward ({look_up.name})": (6, lambda: look_up.backward(x, slopes, dy)),
        "silu forward": (4, lambda: torch.nn.functional.silu(x)),
        "silu backward": (6, lambda: torch.ops.aten.silu_backward(dy, x)),
    }
    rows = []
    for name, (size, action) in actions.items():
        seconds_of(action, 5)
        speed = size * _ELEMENTS / statistics.median(seconds_of(action, 20) for _ in range(5)) / 1e9
        rows.append({"way": name, "gb_a_second": round(speed)})
    return [row | {"to_copy": round(row["gb_a_second"] / rows[0]["gb_a_second"], 2)} for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--root", help="CIFAR-10's folder; random images without it")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("error: this benchmark measures a GPU, and torch finds none here", file=sys.stderr)
        return 2
    device = torch.device("cuda")
    data = datasets.get("cifar10")(root=arguments.root) if arguments.root else random_images(10_000)
    assert isinstance(data, Images)
    tables = {"child": child(data, arguments.steps, device), "kernel": kernel(device)}
    about = environment(device, "", "table")
    if arguments.json:
        print(json.dumps({"environment": about, **tables}, indent=2))
        return 0
    print(", ".join(f"{key} {value}" for key, value in about.items() if value))
    for rows in tables.values():
        print("".join(f"{name:<34}" if name == "way" else f"{name:>22}" for name in rows[0]))
        for row in rows:
            print("".join(f"{value:<34}" if name == "way" else f"{value:>22}" for name, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
