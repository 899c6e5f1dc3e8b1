"""Tables of results: every function of a space, trained with several seeds, in two parquet files.

A table says what a search would have found without training anything again. ``functions.parquet`` has a row a function,
``trainings.parquet`` a row a training; the configuration and its format stand in the files' metadata.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from trainers.trial import METRICS, TrialResult, TrialState

FORMAT = 1
FUNCTIONS, TRAININGS = "functions.parquet", "trainings.parquet"
FUNCTION_COLUMNS = {
    "expression": "the function, in its simplest spelling of the space",
    "formula": "the same after the rewrite rules, for people",
    "name": "its name, if it is a known one",
    "likeness": "the known function that it is (=), up to scale, shift and reflection, or nearly is (~); Swish family",
    "swish_family": "whether it is of the Swish family and dips below 0 (analysis.properties.is_swish_like)",
    "nodes": "number of nodes of the expression",
    "cost": "time of forward and backward pass as a multiple of ReLU's (trainers.cost)",
    "spectrum": "quantiles of the Fisher spectrum of its network at initialisation, first seed (trainers.fisher)",
}
TRAINING_COLUMNS = {
    "function": "row of the function in functions.parquet",
    "seed": "of initialisation, data order and augmentation",
    "state": "COMPLETE or FAIL",
    "reason": "why, for a failure",
    "val_accuracy": "0 to 1, at the end",
    "val_loss": "nats, at the end",
    "val_bpb": "bits a byte, for text",
    "train_loss": "nats, mean of the last epoch",
    "train_loss_sum": "sum of that mean over epochs",
    "seconds": "of the training",
    "parameters": "trained values in the model",
}


class TableError(ValueError):
    """A folder that is no table, or one that does not serve. The message says what to do."""


@dataclass(frozen=True)
class ResultTable:
    """Every function of a space with its results.

    Attributes:
        functions: columns :data:`FUNCTION_COLUMNS`, a row a function.
        trainings: columns :data:`TRAINING_COLUMNS`, a row a training.
        about: ``config``, ``environment``, ``nas_version``, ``relaxations`` (seed, settings and outcome of each).
    """

    functions: pd.DataFrame
    trainings: pd.DataFrame
    about: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted(int(seed) for seed in self.trainings["seed"].unique()))

    def values(self, metric: str) -> NDArray[np.float64]:
        """(functions, seeds): the metric, negated if smaller is better; NaN for a failure."""
        wide = self.trainings.pivot(index="function", columns="seed", values=metric)
        wide = wide.reindex(index=range(len(self.functions)), columns=list(self.seeds))
        failed = self.trainings.pivot(index="function", columns="seed", values="state").reindex_like(wide) != "COMPLETE"
        values = wide.to_numpy(float, na_value=np.nan) * (1 if METRICS[metric] == "max" else -1)
        return np.where(failed.to_numpy(), np.nan, values)

    def results(self, seed: int) -> list[TrialResult]:
        """The result of every function with that seed."""
        rows = self.trainings[self.trainings["seed"] == seed].set_index("function")
        return [
            TrialResult(
                TrialState(row["state"]),
                metrics={name: float(row[name]) for name in METRICS if not pd.isna(row[name])},
                reason=None if pd.isna(row["reason"]) else row["reason"],
                seconds=float(row["seconds"]),
                cost=float(cost),
            )
            for row, cost in zip(rows.sort_index().to_dict("records"), self.functions["cost"], strict=True)
        ]

    def write(self, folder: Path) -> None:
        """Write both files; the folder exists."""
        about = json.dumps({"format": FORMAT, **self.about})
        for name, frame in ((FUNCTIONS, self.functions), (TRAININGS, self.trainings)):
            table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata({"nas": about})
            pq.write_table(table, folder / name, compression="zstd")


def read_table(folder: Path) -> ResultTable:
    """A table from its folder.

    Raises:
        TableError: it is not there, damaged, of another format, or not complete.
    """
    frames, about = [], {}
    for name in (FUNCTIONS, TRAININGS):
        path = folder / name
        if not path.is_file():
            usual = Path("tables") / folder
            hint = f"did you mean {usual}?" if (usual / name).is_file() else "nas table CONFIG makes one"
            raise TableError(f"{folder} is not a table: there is no {name} in it; {hint}")
        try:
            table = pq.read_table(path)
            about = json.loads((table.schema.metadata or {}).get(b"nas", b"{}"))
            frames.append(table.to_pandas())
        except (pa.ArrowException, OSError, ValueError) as error:
            raise TableError(f"{path} cannot be read as a table ({' '.join(str(error).split())[:200]})") from error
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            about = about if isinstance(about, dict) else {}
            raise TableError(f"{path} has table format {about.get('format')}, this program reads format {FORMAT}")
    functions, trainings = frames
    for frame, columns, name in ((functions, FUNCTION_COLUMNS, FUNCTIONS), (trainings, TRAINING_COLUMNS, TRAININGS)):
        if missing := [column for column in columns if column not in frame]:
            raise TableError(f"{folder / name} lacks the columns {', '.join(missing)}")
    result = ResultTable(functions, trainings, about)
    _check_values(folder, result)
    _check_complete(folder, result)
    return result


def _check_values(folder: Path, table: ResultTable) -> None:
    """Numbers where numbers belong, text where text does."""
    for name, frame, numbers, texts in (
        (FUNCTIONS, table.functions, ("nodes", "cost"), ("expression", "formula")),
        (TRAININGS, table.trainings, ("function", "seed", *METRICS, "seconds"), ("state",)),
    ):
        for column in numbers:
            if not is_numeric_dtype(frame[column]) or is_bool_dtype(frame[column]):
                raise TableError(f"{folder / name} has something else than numbers in the column {column}")
            if column in ("function", "seed") and not (frame[column] % 1 == 0).all():  # never for NaN
                raise TableError(f"{folder / name} has something else than whole numbers in the column {column}")
        for column in texts:
            if not all(isinstance(value, str) for value in frame[column]):
                raise TableError(f"{folder / name} has something else than text in the column {column}")
    if not is_bool_dtype(table.functions["swish_family"]):
        raise TableError(f"{folder / FUNCTIONS} has something else than yes or no in the column swish_family")
    strange = set(table.trainings["state"]) - {"COMPLETE", "FAIL"}
    if strange:
        raise TableError(f"{folder / TRAININGS} has states {', '.join(strange)}; a training is COMPLETE or FAIL")
    shapes = {np.shape(spectrum) for spectrum in table.functions["spectrum"]}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise TableError(f"{folder / FUNCTIONS} has spectra of different lengths; write it again: nas table RUN")


def _check_complete(folder: Path, table: ResultTable) -> None:
    """Every function with every seed, at least two, once."""
    pairs = Counter(zip(table.trainings["function"].tolist(), table.trainings["seed"].tolist(), strict=True))
    if len(table.seeds) < 2 or pairs != Counter(product(range(len(table.functions)), table.seeds)):
        raise TableError(
            f"{folder} has {len(table.trainings)} trainings of {len(table.functions)} functions with seeds "
            f"{table.seeds}; a table has every function with every seed once, and at least two seeds; write it again "
            "from its study: nas table RUN"
        )
