"""Searches that are broken in mid-run: nothing lost, nothing doubled.

``python -m tests.faults`` plays any number of rounds of each fault.
"""

from __future__ import annotations

import pytest

from tests.faults.rounds import play, possible
from tests.faults.strikes import FAULTS

BY_NAME = {fault.name: fault for fault in FAULTS}


@pytest.mark.slow  # kills are in tests/nas/cluster/test_tune.py, too
@pytest.mark.parametrize("name", BY_NAME)
def test_nothing_is_lost_and_nothing_doubled(name):
    if not possible(BY_NAME[name]):
        pytest.skip("mounting a file system needs root")
    outcome = play(BY_NAME[name], seed=1)
    assert (outcome.lost, outcome.doubled) == (0, 0)
