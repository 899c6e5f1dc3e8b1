"""Which precision trains faster here: measured, because a processor may support bfloat16 and yet be slow at it."""

from __future__ import annotations

import dataclasses
import time
from itertools import islice

import torch

from trainers.batches import make_batches
from trainers.data import DataSet
from trainers.environment import keep_freed_memory
from trainers.network import Network
from trainers.trial import PRECISIONS, Trial

WORTH = 1.25
"""bf16 is chosen if it is so many times as fast as fp32. Less may be noise, and is not worth 16 bits of precision."""

_BATCH = 64
_ROUNDS = 5
_SECONDS = 10.0


def faster_precision(trial: Trial, data: DataSet, device: torch.device) -> str:
    """``bf16`` if a training step of this trial is clearly faster with it here, else ``fp32``."""
    times = step_times(trial, data, device)
    return "bf16" if times["fp32"] >= WORTH * times["bf16"] else "fp32"


def step_times(trial: Trial, data: DataSet, device: torch.device) -> dict[str, float]:
    """Seconds of a training step in each precision, with small batches: the fastest of some, taking turns.

    It takes ten seconds at most, or two steps of each if these are longer.
    """
    keep_freed_memory()
    recipe = dataclasses.replace(trial.recipe, batch_size=min(_BATCH, trial.recipe.batch_size))
    batches = make_batches(data, recipe.batch_size, device)
    networks = {
        precision: Network(dataclasses.replace(trial, recipe=recipe, precision=precision), data, device, 0)
        for precision in PRECISIONS
    }
    (batch,) = islice(batches.epoch(torch.Generator().manual_seed(0)), 1)
    times: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    begin = time.perf_counter()
    for turn in range(1 + _ROUNDS):
        for precision, network in networks.items():
            network.model.train()
            start = time.perf_counter()
            network.step(batch, 0.0).item()  # waits for the device
            times[precision].append(time.perf_counter() - start)
        if turn and time.perf_counter() - begin > _SECONDS:
            break
    if device.type == "cuda":
        del networks, network
        torch.cuda.empty_cache()  # the caller may live as long as a search
    # The first step of each compiles, chooses algorithms and captures.
    return {precision: min(values[1:]) for precision, values in times.items()}
