"""Fixtures shared by all tests."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings

# The same examples in every run, so that a failure is the change's and not the day's. New ones are looked for with
# pytest --hypothesis-profile=explore.
settings.register_profile("default", deadline=None, max_examples=100, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=4000)
settings.load_profile("default")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def clean_environment() -> dict[str, str]:
    """This process's environment without what would let a child find the project by accident."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COLUMNS") and not k.startswith("RAY_")}
