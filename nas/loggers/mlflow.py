"""MLflow: one run a study, in ``RUN/mlflow`` unless ``MLFLOW_TRACKING_URI`` names another place."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from functools import partial
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from analysis.store import Record
from nas.loggers import Logger, Study
from nas.loggers.behind import Behind
from nas.loggers.csv import FILE_NAME, text_of
from nas.loggers.curves import FINISHED, Curves
from nas.loggers.parameters import flat

FOLDER = "mlflow"
_TAG = "nas.study"
_METRICS_AT_ONCE = 1000  # MLflow's limits of a request
_PARAMS_AT_ONCE = 100
_LONGEST_VALUE = 6000


def open_logger(study: Study) -> Logger:
    return Behind(partial(_Mlflow, study))


class _Mlflow:
    def __init__(self, study: Study) -> None:
        self._study = study
        self._curves = Curves(study.config.search.objective)
        self._records: list[Record] = []
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # the terminal is the search's
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(uri or _here(study.path / FOLDER))
        run = self._run(None if uri else (study.path.resolve() / FOLDER / "artifacts").as_uri())
        self._id = run.info.run_id
        self._known = int(run.data.metrics.get(FINISHED, 0))
        self.several(list(study.earlier))

    def several(self, records: list[Record]) -> None:
        self._records += records
        points = [self._curves.point(record) for record in records]
        now = int(1000 * time.time())
        metrics = [
            Metric(name, value, now, point.step)
            for point in points
            if point.step > self._known
            for name, value in point.values.items()
        ]
        for start in range(0, len(metrics), _METRICS_AT_ONCE):
            self._client.log_batch(self._id, metrics=metrics[start : start + _METRICS_AT_ONCE])

    def close(self) -> None:
        with tempfile.TemporaryDirectory(prefix="nas-mlflow-") as folder:
            table = Path(folder) / FILE_NAME
            table.write_text(text_of(self._records), encoding="utf-8")
            self._client.log_artifact(self._id, str(table))
        self._client.set_terminated(self._id, "FINISHED" if self._study.is_done() else "KILLED")

    def _run(self, artifacts: str | None) -> Run:
        """The study's run; a new one if there is none."""
        client, name = self._client, self._study.config.name
        experiment = client.get_experiment_by_name(name)
        number = client.create_experiment(name, artifacts) if experiment is None else experiment.experiment_id
        found = client.search_runs([number], f"tags.`{_TAG}` = '{self._study.identity}'", max_results=1)
        if found:
            client.update_run(found[0].info.run_id, "RUNNING")
            return found[0]
        run = client.create_run(number, tags={_TAG: self._study.identity}, run_name=self._study.name)
        params = [Param(key, str(value)[:_LONGEST_VALUE]) for key, value in flat(self._study.config).items()]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            client.log_batch(run.info.run_id, params=params[start : start + _PARAMS_AT_ONCE])
        return run


def _here(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"
