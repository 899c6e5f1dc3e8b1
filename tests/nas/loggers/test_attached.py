"""Loggers cannot end or spoil a search; what is missing is said before it starts; what a resume may change."""

from __future__ import annotations

import contextlib
import sys
import threading
import time

import pytest

import nas.loggers
from analysis.store import Store
from nas.config import elsewhere, load_config, restore_config
from nas.execution import execute
from nas.loggers import LoggerError, openers
from nas.loggers.behind import Behind
from nas.runs import create_run, open_run
from nas.yaml_config import ConfigError
from tests.made_studies import settings, study
from tests.nas.loggers.logged import finished, go_on

_NONE = "loggers=[]"


@contextlib.contextmanager
def unseen(_):
    yield lambda: None


class Broken:
    """Raises at the ``at``-th call; keeps what it was told."""

    def __init__(self, at: int | str) -> None:
        self.at, self.told, self.closed = at, [], 0

    def open(self, _):
        if self.at == "open":
            raise ConnectionError("nobody is there")
        return self

    def finished(self, record):
        if len(self.told) == self.at:
            raise OSError(28, "No space left on device")
        self.told.append(record)

    def close(self):
        self.closed += 1
        if self.at == "close":
            raise RuntimeError("gone")


@pytest.mark.parametrize(
    ("at", "told", "why"),
    [
        ("open", 0, "ConnectionError: nobody is there"),
        (0, 0, "No space left on device"),
        (4, 4, "No space left on device"),
        ("close", None, "RuntimeError: gone"),
        (None, None, None),
    ],
)
def test_a_logger_that_fails_is_switched_off_and_nothing_else_changes(tmp_path, monkeypatch, capsys, at, told, why):
    expected = study(tmp_path / "alone", "search.trials=15", _NONE)
    broken, sound = Broken(at), Broken(None)
    found = {"wandb": broken.open, "csv": sound.open}
    monkeypatch.setattr(nas.loggers, "openers", lambda names: {name: found[name] for name in names})
    (tmp_path / "run").mkdir()
    records = go_on(tmp_path / "run", "search.trials=15", "loggers=[wandb, csv]")
    with Store.open(tmp_path / "run") as store:
        trials = [(r.trial.stage, r.trial.expression, r.trial.seed, r.result) for r in store.records()]
    assert sorted(map(repr, trials)) == sorted(map(repr, expected))
    assert sound.told == records
    assert len(broken.told) == (len(records) if told is None else told)
    said = capsys.readouterr().err
    assert said.count("is off from here on") == (why is not None)
    if why is not None:
        assert f"The logger wandb is off from here on ({why}" in said.replace("OSError: [Errno 28] ", "")
    if at != "open":
        assert broken.closed >= 1
    assert sound.closed == 1


def test_a_directory_where_the_file_belongs_switches_csv_off(tmp_path, capsys):
    (tmp_path / "trials.csv").mkdir()
    records = go_on(tmp_path, "search.trials=15")
    assert "The logger csv is off from here on (IsADirectoryError" in capsys.readouterr().err
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert records


@pytest.mark.parametrize(
    ("name", "library"), [("mlflow", "mlflow"), ("wandb", "wandb"), ("tensorboard", "tensorboardX")]
)
def test_a_missing_library_is_one_sentence_before_anything_starts(tmp_path, monkeypatch, name, library):
    for module in [m for m in sys.modules if m.split(".")[0] == library or m == f"nas.loggers.{name}"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with (
        pytest.raises(LoggerError, match=f"loggers has {name}.*; pip install .*leave {name} out of loggers") as caught,
        create_run(settings(f"loggers=[csv, {name}]"), tmp_path / "run"),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_what_is_not_asked_for_is_not_imported(tmp_path):
    import subprocess

    program = (
        "import sys; from nas.config import load_config; from nas.runs import check_components; "
        "from nas.loggers import openers; openers(['csv']); "
        "print([m for m in ('mlflow', 'wandb', 'tensorboardX') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_default_also_for_older_studies_and_what_a_resume_may_change():
    assert load_config("digits").loggers == ("csv", "tensorboard")
    stored = load_config("digits").model_dump(mode="json")
    del stored["loggers"]
    assert restore_config(stored).loggers == ("csv", "tensorboard")
    assert elsewhere(load_config("digits"), ["loggers=[csv, mlflow]"]).loggers == ("csv", "mlflow")
    assert load_config("digits", ["loggers=csv"]).loggers == ("csv",)
    assert load_config("digits", ["loggers=[csv, csv]"]).loggers == ("csv",)
    assert load_config("digits", [_NONE]).loggers == ()
    for wrong in ("loggers=[cvs]", "loggers=null", "loggers={csv: true}", "loggers=[[csv]]", "loggers=5"):
        with pytest.raises(ConfigError, match="loggers"):
            load_config("digits", [wrong])


def test_a_run_from_start_to_end_with_real_trainings(tmp_path):
    overrides = ["search.trials=2", "trial.epochs=1", "pruning=null", "retrain.top=0", "baselines=[]"]
    config = load_config("digits", [*overrides, "model.width=2", "executor=inline", "trial.precision=fp32", _NONE])
    with create_run(config, tmp_path / "run") as run:
        execute(run, unseen)
    assert not (tmp_path / "run" / "trials.csv").exists()
    with open_run(tmp_path / "run", lambda config: elsewhere(config, ["loggers=[csv, tensorboard]"])) as run:
        assert execute(run, unseen).done
        records = finished(run.store)
    lines = (tmp_path / "run" / "trials.csv").read_text().splitlines()
    assert len(lines) == 1 + len(records) == 3


class Slow:
    def __init__(self, seconds: float, fail: bool = False) -> None:
        self.seconds, self.fail, self.told, self.threads = seconds, fail, [], set()

    def several(self, records):
        self.threads.add(threading.current_thread())
        time.sleep(self.seconds)
        if self.fail:
            raise ConnectionError("gone")
        self.told += records

    def close(self):
        self.told.append("closed")


def test_behind_takes_everything_in_order_and_holds_nobody_up(monkeypatch):
    slow = Slow(0.2)
    behind = Behind(lambda: slow)
    start = time.monotonic()
    for number in range(250):
        behind.finished(number)
    assert time.monotonic() - start < 0.1
    behind.close()
    assert slow.told == [*range(250), "closed"]
    assert threading.current_thread() not in slow.threads


def test_behind_passes_errors_on_and_does_not_wait_for_ever(monkeypatch):
    failing = Behind(lambda: Slow(0, fail=True))
    failing.finished(1)
    failing._thread.join(5)
    with pytest.raises(ConnectionError):
        failing.finished(2)
    monkeypatch.setattr("nas.loggers.behind._PATIENCE_SECONDS", 0.1)
    stuck = Behind(lambda: Slow(2))
    stuck.finished(1)
    with pytest.raises(TimeoutError, match="did not take everything"):
        stuck.close()


def test_names_are_those_of_the_files():
    assert set(openers(["csv", "tensorboard"])) == {"csv", "tensorboard"}
