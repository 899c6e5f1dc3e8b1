"""Weights & Biases: one run a study, kept in ``RUN/wandb`` unless ``WANDB_MODE=online`` sends it to their server.

An offline run that is resumed writes everything anew, so that its last folder is whole: ``wandb sync`` needs no other.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, Literal, cast

import wandb

from analysis.store import Record
from nas.loggers import Logger, Study
from nas.loggers.behind import Behind
from nas.loggers.csv import FILE_NAME, text_of
from nas.loggers.curves import FINISHED, Curves
from nas.loggers.parameters import flat

_Mode = Literal["online", "offline", "disabled", "shared"]


def open_logger(study: Study) -> Logger:
    opened = _Wandb(study)  # in this thread: W&B may ask for a key, and not while the search is drawn
    return Behind(lambda: opened)


class _Wandb:
    def __init__(self, study: Study) -> None:
        self._curves = Curves(study.config.search.objective)
        self._records: list[Record] = []
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", study.config.name),
            id=hashlib.sha256(study.identity.encode()).hexdigest()[:16],
            name=study.name,
            dir=str(study.path),
            config=flat(study.config),
            resume="allow",
            allow_val_change=True,  # workers and the like may be others than before
            mode=cast(_Mode, os.environ.get("WANDB_MODE", "offline")),
            settings=wandb.Settings(console="off", silent=True),  # the terminal is the search's
        )
        self._known = int(self._run.summary.get(FINISHED, 0))
        self._missed = list(study.earlier)

    def several(self, records: list[Record]) -> None:
        missed, self._missed = self._missed, []
        for record in (*missed, *records):
            self._records.append(record)
            point = self._curves.point(record)
            if point.step > self._known:
                values: dict[str, Any] = dict(point.values)
                self._run.log(values | ({"best": record.formula} if point.is_best else {}), step=point.step)

    def close(self) -> None:
        self.several([])
        with tempfile.TemporaryDirectory(prefix="nas-wandb-") as folder:
            table = Path(folder) / FILE_NAME
            table.write_text(text_of(self._records), encoding="utf-8")
            artifact = wandb.Artifact(f"trials-{self._run.id}", type="trials")
            artifact.add_file(str(table))  # copied into W&B's own folder
            self._run.log_artifact(artifact)
            self._run.finish()
