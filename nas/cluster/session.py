"""A Ray to run on: one of our own on this machine, or a cluster that is there already.

One of our own listens on the loopback interface only, asks for a token made for this process, and ends with it. To a
cluster our packages travel as Ray's runtime environment; its machines need the packages that ours depend on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ray

from nas.cluster.environment import ONE_ARENA

_OBJECT_STORE_BYTES = 100_000_000  # trials are a few kilobytes; the default is a third of the memory
_TEMP_PREFIX = "nas-ray-"
_PACKAGES = ("nas", "analysis", "trainers", "search_spaces")


class WorkersError(ValueError):
    """Workers that do not start, or a cluster that does not answer: the installation's fault, not a candidate's."""


@dataclass(frozen=True)
class Node:
    """A machine of a cluster, as Ray sees it."""

    id: str
    address: str
    cpus: float
    gpus: float
    memory: float  # bytes, for all that runs on it

    def slots(self, cpus_per_trial: float, gpus_per_trial: float) -> int:
        """So many trials fit on it at a time."""
        fit = int(self.cpus / cpus_per_trial + 1e-9)
        return min(fit, int(self.gpus / gpus_per_trial + 1e-9)) if gpus_per_trial else fit


def nodes() -> list[Node]:
    """The machines that are up."""
    found = []
    for values in ray.nodes():
        if values["Alive"]:
            resources = values["Resources"]
            amounts = (float(resources.get(name, 0.0)) for name in ("CPU", "GPU", "memory"))
            found.append(Node(values["NodeID"], values["NodeManagerAddress"], *amounts))
    return found


@contextlib.contextmanager
def connected(address: str | None, cores: int, gpus: int) -> Iterator[Path]:
    """Ray while the ``with`` statement lasts; gives a temporary folder that vanishes with it.

    Args:
        address: of a cluster; None for one of our own with so many ``cores`` and ``gpus`` of this machine.

    Raises:
        WorkersError: no cluster answers there, or it does not let us in.
    """
    _remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"{_TEMP_PREFIX}{os.getpid()}-"))
    try:
        with _our_handler_of(signal.SIGTERM):
            if address is None:
                _start(cores, gpus, folder)
            else:
                _join(address, folder)
        for name in ("ray", "ray.tune"):  # after init, which sets levels itself
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield folder
    finally:
        with _delayed(signal.SIGTERM), _our_handler_of(signal.SIGTERM):
            ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


_SILENT: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}


def _start(cores: int, gpus: int, folder: Path) -> None:
    with _importable_from(folder):
        ray.init(
            address="local",
            num_cpus=cores,
            num_gpus=gpus,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=str(folder),
            **_SILENT,
        )


def _join(address: str, folder: Path) -> None:
    if address == "auto":  # a job is told which one it belongs to; Ray itself would take any that runs here
        address = os.environ.get("RAY_ADDRESS", address)
    try:
        in_a_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ  # which brought our packages along, and its own folder
        with contextlib.nullcontext() if in_a_job else contextlib.chdir(folder), _without_native_messages():
            ray.init(address=address, runtime_env=None if in_a_job else runtime_environment(), **_SILENT)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, AssertionError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:300]  # of a traceback, the error
        raise WorkersError(
            f"no Ray cluster lets us in at {address} ({why}); is it running ('ray status' on one of its machines), is "
            f"its version ours ({ray.__version__}), and is RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH set, if it wants one?"
        ) from error


@contextlib.contextmanager
def _without_native_messages() -> Iterator[None]:
    """Ray's native part writes a line a second while a cluster does not let it in; the error in the end says it all."""
    before = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


@contextlib.contextmanager
def _our_handler_of(number: signal.Signals) -> Iterator[None]:
    """Ray puts one in its place, and takes that away in the end; with either, the signal ends the process at once."""
    ours = signal.getsignal(number)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, ours)


@contextlib.contextmanager
def _delayed(number: signal.Signals) -> Iterator[None]:
    """Whoever sends a signal has to wait. Not for what starts processes: they would inherit it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_client() -> bool:
    """Whether this process is outside of the cluster, connected by Ray Client."""
    return bool(ray.util.client.ray.is_connected())


def runtime_environment() -> dict[str, Any]:
    """What brings our packages to a cluster's workers, from a source checkout or an installation alike."""
    return {
        "py_modules": [str(_folder_of(name)) for name in _PACKAGES],
        "excludes": ["__pycache__"],
        "env_vars": {"RAY_CHDIR_TO_TRIAL_DIR": "0", "PYTHONWARNINGS": "ignore", **ONE_ARENA},
    }


def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WorkersError(f"the package {package} is not where Python looks for it; install nas again")
    return Path(spec.submodule_search_locations[0])


@contextlib.contextmanager
def _importable_from(folder: Path) -> Iterator[None]:
    """Ray puts the driver's working directory first on its workers' path, where a user's ``analysis/`` would hide ours.

    So it is started from an empty folder, and workers find the project where this process did.
    """
    root = str(_folder_of("nas").parent)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = root if before is None else f"{root}{os.pathsep}{before}"
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _remove_leftovers() -> None:
    """Remove temporary folders of drivers that were killed and could not do it themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_TEMP_PREFIX}*"):
        pid = folder.name.removeprefix(_TEMP_PREFIX).split("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
