"""Running one trial: all that a worker executes. Plain JSON in, plain JSON out, and no exception ever leaves."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

import torch

from search_spaces.parser import parse
from trainers.batches import Batches, make_batches
from trainers.cost import relative_cost
from trainers.data import DataError, DataSet, datasets, for_confirmation
from trainers.environment import environment, keep_freed_memory
from trainers.loop import Diverged, Metrics, OutOfTime, fit, total_steps
from trainers.network import Network, network_key
from trainers.relax import relax
from trainers.screening import fault, signals
from trainers.trial import Component, Trial, TrialResult, TrialState

Report = Callable[[TrialResult], bool]
"""Told the result so far (state RUNNING) after each of the trial's report epochs; answers whether to stop there."""


class _Stopped(Exception):
    """The report said stop."""


class _Screened(Exception):
    """The network's signals at initialisation are at fault."""


@lru_cache(maxsize=2)
def load_data(data_json: str, score_on: str = "val") -> DataSet:
    """A data set, from its component as JSON. It stays in the worker's memory from trial to trial.

    Variables in its ``root``, such as $DATASETS, are those of this machine. ``score_on`` is a trial's.
    """
    component = Component.from_json(data_json)
    options = dict(component.options)
    for name in {"root", "test_root"} & options.keys():
        if isinstance(options[name], str):
            options[name] = _expanded(options[name])
    data = datasets.get(component.name)(**options)
    return for_confirmation(data) if score_on == "test" else data


def _expanded(root: str) -> str:
    expanded = os.path.expandvars(root)
    if "$" in expanded:
        raise DataError(f"data.root={root!r}: this machine has no such variable; set it there, or write the folder out")
    return expanded


@lru_cache(maxsize=2)
def resident_batches(data_json: str, batch_size: int, device: torch.device, score_on: str = "val") -> Batches:
    """Its batches, on its device; they stay there, too."""
    return make_batches(load_data(data_json, score_on), batch_size, device)


_networks: OrderedDict[str, Network] = OrderedDict()
"""The last networks by their key, least recently used first: candidates of 0, 1 and 2 parameters take turns."""
_MOST_NETWORKS = 3


def run_trial(trial: Trial, report: Report) -> TrialResult:
    """Train a trial's activation in its model on its data.

    Whatever happens is a result: divergence, an exception of any kind, memory that runs out and a time-out give FAIL
    with the reason, a report that answers True gives PRUNED.
    """
    start = time.monotonic()
    history: list[Metrics] = []
    parameters: int | None = None
    device, activation = torch.device("cpu"), "none"
    network: Network | None = None
    cost: float | None = None
    weights: list[list[float]] | None = None

    def result(state: TrialState, reason: str | None = None) -> TrialResult:
        return TrialResult(
            state=state,
            metrics=history[-1] if history else {},
            history=list(history),
            reason=reason,
            seconds=round(time.monotonic() - start, 3),
            parameters=parameters,
            environment=environment(device, trial.precision, activation),
            cost=cost,
            weights=weights,
        )

    def record(metrics: Metrics) -> None:
        history.append(metrics)
        if metrics["epoch"] in trial.report_epochs and report(result(TrialState.RUNNING)):
            raise _Stopped

    try:
        device = pick_device(trial.device)
        keep_freed_memory()
        batches = resident_batches(trial.data.to_json(), trial.recipe.batch_size, device, trial.score_on)
        if trial.measure_cost:
            cost = relative_cost(parse(trial.expression))
        start = time.monotonic()  # loading happens once a worker and is not part of a trial's cost
        if trial.relaxation is not None:
            weights = relax(trial, load_data(trial.data.to_json()), device, record)
            return result(TrialState.COMPLETE)
        network = _network(trial, device, total_steps(trial, len(batches)))
        activation = network.activation
        parameters = sum(p.numel() for p in network.model.parameters())
        if trial.screen:
            _screen(network, batches, trial.seed)
        fit(network, batches, trial, record)
    except _Stopped:
        return result(TrialState.PRUNED)
    except _Screened as error:
        return result(TrialState.FAIL, f"screened: {error}")
    except Diverged as error:
        return result(TrialState.FAIL, f"diverged: {error}")
    except OutOfTime as error:
        return result(TrialState.FAIL, f"{error} (limit {trial.max_seconds} s)")
    except Exception as error:
        reason = _reason(error, trial, device)
    else:
        return result(TrialState.COMPLETE)
    # Networks may be what is broken, or what holds the memory; only now that the exception is gone can it be given
    # back.
    network = None
    _networks.clear()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return result(TrialState.FAIL, reason)


def _network(trial: Trial, device: torch.device, steps: int) -> Network:
    """A network of an earlier trial, if one can be used again, else a new one."""
    data = load_data(trial.data.to_json(), trial.score_on)
    key = network_key(trial)
    if key is not None and key in _networks:
        _networks.move_to_end(key)
        _networks[key].restart(trial)
        return _networks[key]
    network = Network(trial, data, device, steps)
    if key is not None:
        _networks[key] = network
        while len(_networks) > _MOST_NETWORKS:
            _networks.popitem(last=False)
    return network


def screened(trial: Trial) -> str | None:
    """Why the screen would end a trial before its first step; None if it would not, or does not come to say."""
    device, data = pick_device(trial.device), trial.data.to_json()
    try:
        batches = resident_batches(data, trial.recipe.batch_size, device, trial.score_on)
        _screen(Network(trial, load_data(data, trial.score_on), device, 1), batches, trial.seed)
    except _Screened as error:
        return str(error)
    except Exception:  # what else is wrong, the training says
        return None
    return None


def _screen(network: Network, batches: Batches, seed: int) -> None:
    batch = next(iter(batches.epoch(torch.Generator().manual_seed(seed))))
    found = fault(signals(network, batch))
    if found:
        raise _Screened(found)


def _reason(error: Exception, trial: Trial, device: torch.device) -> str:
    """What went wrong, and for memory what the user can do."""
    if is_out_of_memory(error):
        return (
            f"out of memory on {device.type}: lower recipe.batch_size (it is {trial.recipe.batch_size}), workers, so "
            "that fewer trials share the memory, or the model's size"
        )
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, on a GPU or in the machine: this error, or the one in whose wake it came."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def pick_device(name: str) -> torch.device:
    """``auto`` is a GPU if there is one, and a GPU is the current one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device(name)
