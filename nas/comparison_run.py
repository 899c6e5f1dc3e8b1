"""Running a comparison: each training in a process of its own, a few at a time."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

import torch

from nas.comparison import ComparisonConfig
from trainers.comparison import Outcome, Variant, run_variant

Results = dict[str, list[Outcome]]
"""For each variant the outcome of each seed, in order."""


def run_comparison(config: ComparisonConfig, done: Callable[[str, int, Outcome], None]) -> Results:
    """Train and test every variant with every seed. Whatever ends this, no process is left over.

    Args:
        done: told of each training when it is over: variant, seed, outcome.
    """
    waiting = list(config.trainings())[::-1]
    running: dict[Connection, tuple[BaseProcess, str, int]] = {}
    outcomes: dict[str, dict[int, Outcome]] = {name: {} for name in config.variants}
    try:
        while waiting or running:
            while waiting and len(running) < config.workers:
                name, variant = waiting.pop()
                process, pipe = _start(variant)
                running[pipe] = process, name, variant.seed
            for ready in wait(list(running)):  # a pipe whose process is gone is ready, too
                pipe = cast(Connection, ready)
                process, name, seed = running.pop(pipe)
                outcomes[name][seed] = _receive(pipe, process)
                done(name, seed, outcomes[name][seed])
    finally:
        for process, _, _ in running.values():
            process.terminate()
        for process, _, _ in running.values():
            process.join()
    return {name: [by_seed[seed] for seed in sorted(by_seed)] for name, by_seed in outcomes.items()}


def _start(variant: Variant) -> tuple[BaseProcess, Connection]:
    """A process that trains a variant, and the pipe that its outcome comes through."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(variant, theirs), daemon=True)
    # Ctrl-C in a terminal reaches every process; what it means is decided in ours. Ignoring is inherited.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    theirs.close()
    return process, ours


def _train(variant: Variant, pipe: Connection) -> None:
    torch.set_num_threads(1)
    try:
        outcome = run_variant(variant)
    except Exception as error:
        outcome = Outcome(reason=" ".join(f"{type(error).__name__}: {error}".split())[:500])
    pipe.send(outcome)


def _receive(pipe: Connection, process: BaseProcess) -> Outcome:
    try:
        outcome: Outcome = pipe.recv()
    except EOFError:
        process.join()
        return Outcome(reason=f"lost its process (exit code {process.exitcode}); perhaps memory ran out")
    process.join()
    return outcome
