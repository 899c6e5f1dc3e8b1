"""MLflow and W&B, each read back by what it comes with; without the library there is nothing to be seen."""

from __future__ import annotations

import struct

import pandas as pd
import pytest

from nas.loggers.parameters import flat
from tests.made_studies import settings
from tests.nas.loggers.logged import best_so_far, go_on


def test_parameters_are_named_as_on_the_command_line():
    values = flat(settings("search.trials=15"))
    assert values["search.trials"] == 15
    assert values["model.name"] == "resnet8"
    assert values["loggers"] == '["csv", "tensorboard"]'
    assert values["pruning"] is None
    assert not any(isinstance(value, dict | list) for value in values.values())


@pytest.fixture
def mlflow(monkeypatch):
    found = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return found


def test_mlflow_has_one_run_a_study_also_after_a_resume(tmp_path, mlflow):
    path = tmp_path / "run"
    go_on(path, "search.trials=15", "loggers=mlflow", steps=6)
    client = mlflow.MlflowClient(f"sqlite:///{path / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    assert run.data.metrics["finished"] == 6
    records = go_on(path, "search.trials=15", "loggers=mlflow", "workers=2")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["search.trials"] == "15"
    for name, expected in (
        ("val_accuracy/best", best_so_far(records)),
        ("failures", [sum(r.result.state == "FAIL" for r in records[:n]) for n in range(1, len(records) + 1)]),
    ):
        history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda m: m.step)
        assert [(m.step, m.value) for m in history] == [(n, v) for n, v in enumerate(expected, 1) if v is not None]
    table = pd.read_csv(client.download_artifacts(run.info.run_id, "trials.csv", str(tmp_path)))
    assert table["id"].tolist() == [r.trial.id for r in records]


def test_mlflow_honours_the_tracking_uri(tmp_path, mlflow, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        go_on(tmp_path / name, "search.trials=15", "loggers=mlflow")
        assert not (tmp_path / name / "mlflow").exists()
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert {run.info.run_name for run in runs} == {"one", "two"}


def test_an_mlflow_server_that_is_not_there_holds_nothing_up(tmp_path, mlflow, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setattr("nas.loggers.behind._PATIENCE_SECONDS", 10)
    assert go_on(tmp_path, "search.trials=15", "loggers=mlflow")
    assert capsys.readouterr().err.count("The logger mlflow is off from here on") == 1


@pytest.fixture
def wandb(monkeypatch):
    found = pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return found


def steps_of(path) -> list[dict[str, str]]:
    """The history in an offline run's file, whose records are laid out as in LevelDB's logs."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, start, data, found = path.read_bytes(), 7, b"", []
    while start + 7 <= len(content):
        if 32768 - start % 32768 < 7:  # no header fits in the rest of a block
            start += 32768 - start % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, start)
        data += content[start + 7 : start + 7 + length]
        start += 7 + length
        if kind in (1, 4):  # whole, or a last part
            record, data = Record.FromString(data), b""
            if record.HasField("history"):
                found.append({item.key or item.nested_key[0]: item.value_json for item in record.history.item})
    return found


def test_wandb_keeps_a_whole_run_offline_also_after_a_resume(tmp_path, wandb, capfd):
    path = tmp_path / "run"
    go_on(path, "search.trials=15", "loggers=wandb", steps=6)
    records = go_on(path, "search.trials=15", "loggers=wandb", "workers=2")
    folders = sorted((path / "wandb").glob("offline-run-*"), key=lambda p: p.stat().st_mtime_ns)
    assert len({folder.name.rpartition("-")[2] for folder in folders}) == 1  # one run in W&B
    history = steps_of(next(folders[-1].glob("*.wandb")))
    assert [int(float(step["finished"])) for step in history] == list(range(1, len(records) + 1))
    best = best_so_far(records)
    assert [float(step["val_accuracy/best"]) for step in history if "val_accuracy/best" in step] == [
        b for b in best if b is not None
    ]
    assert capfd.readouterr().out == ""
