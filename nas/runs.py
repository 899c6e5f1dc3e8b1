"""Run directories: where a study lives, who may write it, and whether it can run here."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from analysis.store import FILE_NAME, Store
from nas import __version__
from nas.cluster.address import check_reachable
from nas.cluster.environment import settle
from nas.config import ExperimentConfig, restore_config
from nas.loggers import openers
from nas.search import SEARCH
from nas.warm_start import warm_start
from search_spaces.values import one_thread
from trainers.data import DataError, DataSet, Text
from trainers.environment import machine
from trainers.models import models
from trainers.network import example
from trainers.precision import faster_precision
from trainers.run import is_out_of_memory, load_data, pick_device
from trainers.trial import Trial


class RunError(ValueError):
    """A run directory or a component that cannot be used. The message says what to do."""


@dataclass(frozen=True)
class Run:
    """A study that is open for writing."""

    path: Path
    config: ExperimentConfig
    store: Store


def default_run_path(config: ExperimentConfig) -> Path:
    """``runs/NAME-DATE``, made unique if two start in the same second."""
    base = Path("runs") / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


_OURS = {".lock", "config.yaml", "study.new"}
"""What a run that was killed while it was being created may have left."""


@contextlib.contextmanager
def create_run(config: ExperimentConfig, path: Path) -> Iterator[Run]:
    """A new study in ``path``, which must not exist or be empty."""
    with contextlib.ExitStack() as stack:
        try:
            if (path / FILE_NAME).exists():
                _refuse_existing(config, path)
            if path.is_dir() and any(entry.name not in _OURS for entry in path.iterdir()):
                raise RunError(f"the run directory {path} exists and is not empty; choose another --run")
            _check_here(config)
            warm_start(config)  # says what is wrong with an earlier study before anything is left behind
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(path))
            (path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
            store = stack.enter_context(Store.create(path, config.model_dump(mode="json")))
            store.put("nas_version", __version__)
            store.put("machine", machine())
            store.put("created", time.strftime("%Y-%m-%dT%H:%M:%S%z"))
        except OSError as error:
            why = error.strerror or error
            raise RunError(f"the run directory {path} cannot be written ({why}); choose another --run") from error
        yield Run(path, config, store)


@contextlib.contextmanager
def open_run(path: Path, change: Callable[[ExperimentConfig], ExperimentConfig] | None = None) -> Iterator[Run]:
    """An existing study, to go on with it; ``change`` may say otherwise where it runs, for this time."""
    with Store.open(path):  # says what is wrong with the directory, if anything, before it is written to
        pass
    if not os.access(path, os.W_OK) or not os.access(path / FILE_NAME, os.W_OK):
        raise RunError(f"the run directory {path} is not writable; change its permissions or copy it")
    with _locked(path), Store.open(path, write=True) as store:
        config = restore_config(store.get("config"))
        config = config if change is None else change(config)
        _check_here(config)
        yield Run(path, config, store)


def _check_here(config: ExperimentConfig) -> None:
    """Whether this machine can do what it has to; what a cluster's machines have is theirs to say."""
    openers(config.loggers)
    if config.executor == "inline" or config.ray.address is None:
        check_components(config)
    else:
        check_reachable(config.ray.address)


def check_components(config: ExperimentConfig, score_on: str = "val") -> None:
    """Load the data and build the model once, so that what is wrong with them is said before anything starts.

    Raises:
        RunError: something is.
    """
    if config.trial.device == "cuda" and not torch.cuda.is_available():
        raise RunError("trial.device is cuda, but torch finds no GPU here; set trial.device=auto")
    data = _load_data(config, score_on)
    metrics = [config.search.objective, *([config.pruning.metric] if config.pruning else [])]
    if "val_bpb" in metrics and not isinstance(data, Text):
        raise RunError("val_bpb, bits per byte, is measured on text; choose another search.objective or pruning.metric")
    try:
        model = models.get(config.model.name)(_OfOneInput, data.input_shape, data.num_outputs, **config.model.options)
        with torch.no_grad():
            model.eval()(example(data))
    except (ValueError, TypeError, RuntimeError) as error:
        raise RunError(f"model {config.model.name!r} does not work on {config.data.name!r}: {error}") from error


class _OfOneInput(nn.Module):
    """An activation as a search gives them to models."""

    def forward(self, *inputs: Tensor) -> Tensor:
        if len(inputs) != 1:
            raise ValueError(
                f"it gives its activation {len(inputs)} inputs, and a function of a search space has one, x; choose "
                "another option of the model, such as model.ffn=gated"
            )
        return inputs[0].relu()


def _load_data(config: ExperimentConfig, score_on: str = "val") -> DataSet:
    try:
        return load_data(config.data.component().to_json(), score_on)
    except DataError as error:
        raise RunError(f"data set {config.data.name!r}: {error}") from error


def settle_precision(run: Run) -> None:
    """Measure once a study which precision is faster, if it is not configured. A resumed study keeps to what it had."""
    config = run.config
    if config.trial.precision != "auto" or run.store.get("precision") is not None:
        return
    if config.executor == "ray" and config.ray.address is not None:
        settle(config.ray.address)
        from nas.cluster.run import faster_precision_there

        faster = faster_precision_there(config)
    else:
        faster = faster_precision_here(config)
    run.store.put("precision", faster)


def example_trial(config: ExperimentConfig) -> Trial:
    """A trial like those of a search, of SiLU for one epoch in float32."""
    trial = config.full_trial(0, SEARCH, "x * sigmoid(x)", config.seed, "fp32")
    return replace(trial, budget_epochs=1, max_steps=None, max_seconds=None)


def faster_precision_here(config: ExperimentConfig) -> str:
    """Which precision is faster on this machine.

    Raises:
        RunError: memory ran out, or the data are not there.
    """
    data = _load_data(config)
    try:
        with one_thread():
            return faster_precision(example_trial(config), data, pick_device(config.trial.device))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            "memory ran out while the precision was measured; set trial.precision=bf16 (or fp32), and lower "
            f"recipe.batch_size (it is {config.recipe.batch_size}) or the model's size"
        ) from error


def _refuse_existing(config: ExperimentConfig, path: Path) -> None:
    with Store.open(path) as store:
        same = store.get("config") == config.model_dump(mode="json")
    if same:
        raise RunError(f"{path} already holds this study; continue it with: nas resume {path}")
    raise RunError(
        f"{path} belongs to a study with another configuration (see {path / 'config.yaml'}); choose another --run"
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time; the lock goes away with the process, however it ends."""
    try:
        file = open(path / ".lock", "w")  # noqa: SIM115 (closed below, after the yield)
    except OSError as error:
        raise RunError(f"{path} is not writable ({error.strerror}); change its permissions or copy it") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{path} is in use by another process; wait until it has ended") from error
        yield
