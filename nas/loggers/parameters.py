"""A configuration as the flat list of keys that experiment trackers show in a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nas.config import ExperimentConfig


def flat(config: ExperimentConfig) -> dict[str, Any]:
    """By key, written as on the command line: ``search.trials``. Lists are JSON."""
    return dict(_flat(config.model_dump(mode="json"), ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if isinstance(value, list | dict) else value
