"""How metrics are called, and in which unit and with how many digits they are shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

_PARTS = {"val": "validation", "test": "test", "train": "training"}
_KINDS = {
    "accuracy": "accuracy, %",
    "loss": "loss, nats",
    "bpb": "bits per byte",
    "loss_sum": "loss, nats, summed over epochs",
}

_UNITS = {"accuracy": "points of accuracy", "loss": "nats", "bpb": "bits per byte", "loss_sum": "nats"}


def kind(metric: str) -> str:
    """``accuracy`` of ``val_accuracy``."""
    return metric.partition("_")[2]


def part(metric: str) -> str:
    """``validation`` of ``val_accuracy``: the data that it is measured on."""
    name = metric.partition("_")[0]
    return _PARTS.get(name, name)


def label(metric: str) -> str:
    """For an axis, with the unit."""
    return f"{part(metric)} {of_kind(kind(metric))}"


def of_kind(kind: str) -> str:
    """``accuracy, %`` of ``accuracy``, whatever it is measured on."""
    return _KINDS.get(kind, kind)


def prose(metric: str) -> str:
    """In a sentence, without the unit."""
    return label(metric).partition(",")[0]


def factor(metric: str) -> float:
    """By which a stored value is shown."""
    return 100.0 if kind(metric) == "accuracy" else 1.0


def shown(value: object, metric: str, sign: bool = False) -> str:
    """A value, or with ``sign`` a difference, in the unit of :func:`label`; nothing for a missing one."""
    number = as_number(value)
    if not math.isfinite(number):
        return "" if math.isnan(number) else str(number)
    digits = 2 if kind(metric) == "accuracy" else 3
    return f"{number * factor(metric):{'+' if sign else ''}.{digits}f}"


def as_number(value: object) -> float:
    """NaN for what is missing."""
    return float(value) if isinstance(value, int | float) and not pd.isna(value) else math.nan


def unit(metric: str) -> str:
    """Of a difference."""
    return _UNITS.get(kind(metric), kind(metric))


def shorten(text: object, length: int = 40) -> str:
    """With an ellipsis, if it is longer; line breaks and other control characters are gone."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def likeness(row: Mapping[str, Any] | pd.Series) -> str:
    """What a function is like; nothing if that is its formula once more, such as ``= 2 * tanh(x)``."""
    text = row["likeness"]
    return "" if text is None or pd.isna(text) or text == f"= {row['formula']}" else str(text)


def title_of(row: pd.Series, length: int = 40) -> str:
    """What to call a function in a picture: its name if it has one, else the formula."""
    return shorten(row["formula"] if pd.isna(row["name"]) else row["name"], length)
