"""Running one trial: all that a worker executes. Plain JSON in, plain JSON out, and no exception ever leaves."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from functools import lru_cache

import torch

from search_spaces.compile import ExpressionActivation, ParamShape
from search_spaces.parser import parse
from trainers.data import Images, datasets
from trainers.loop import Diverged, Metrics, OutOfTime, fit
from trainers.models import models
from trainers.trial import Component, Trial, TrialResult, TrialState

Report = Callable[[TrialResult], bool]
"""Told the result so far (state RUNNING) after each of the trial's report epochs; answers whether to stop there."""


class _Stopped(Exception):
    """The report said stop."""


@lru_cache(maxsize=4)
def _load(data_json: str) -> Images:
    """Data sets stay in the worker's memory from trial to trial."""
    component = Component.from_json(data_json)
    return datasets.get(component.name)(**component.options)


def run_trial(trial: Trial, report: Report) -> TrialResult:
    """Train a trial's activation in its model on its data.

    Whatever happens is a result: divergence, an exception of any kind and a time-out give FAIL with the reason, a
    report that answers True gives PRUNED.
    """
    start = time.monotonic()
    history: list[Metrics] = []
    parameters: int | None = None
    device = torch.device("cpu")

    def result(state: TrialState, reason: str | None = None) -> TrialResult:
        return TrialResult(
            state=state,
            metrics=history[-1] if history else {},
            history=list(history),
            reason=reason,
            seconds=round(time.monotonic() - start, 3),
            parameters=parameters,
            environment=environment(device),
        )

    def record(metrics: Metrics) -> None:
        history.append(metrics)
        if metrics["epoch"] in trial.report_epochs and report(result(TrialState.RUNNING)):
            raise _Stopped

    try:
        device = _device(trial.device)
        data = _load(trial.data.to_json())
        start = time.monotonic()  # loading happens once a worker and is not part of a trial's cost
        torch.manual_seed(trial.seed)
        model = build_model(trial, data).to(device).to(memory_format=torch.channels_last)
        parameters = sum(p.numel() for p in model.parameters())
        fit(
            model,
            data,
            trial.recipe,
            budget_epochs=trial.budget_epochs,
            max_steps=trial.max_steps,
            max_seconds=trial.max_seconds,
            seed=trial.seed,
            device=device,
            report=record,
        )
    except _Stopped:
        return result(TrialState.PRUNED)
    except Diverged as error:
        return result(TrialState.FAIL, f"diverged: {error}")
    except OutOfTime as error:
        return result(TrialState.FAIL, f"{error} (limit {trial.max_seconds} s)")
    except Exception as error:
        return result(TrialState.FAIL, " ".join(f"{type(error).__name__}: {error}".split())[:500])
    return result(TrialState.COMPLETE)


def build_model(trial: Trial, data: Images) -> torch.nn.Module:
    """The trial's model with its activation, all parameters materialised."""
    expression = parse(trial.expression)
    shape: ParamShape = "channel" if trial.param_shape == "channel" else "scalar"
    model = models.get(trial.model.name)(
        lambda: ExpressionActivation(expression, shape), data.input_shape, data.num_outputs, **trial.model.options
    )
    with torch.no_grad():  # gives per-channel activation parameters their shape
        model.eval()(torch.zeros(1, *data.input_shape))
    return model


def environment(device: torch.device) -> dict[str, str]:
    """Versions and device, recorded with every result."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"python": platform.python_version(), "torch": torch.__version__, "device": device.type, "processor": name}


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
