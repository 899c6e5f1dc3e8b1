"""What Ray reads from the environment; to be settled before it is imported."""

from __future__ import annotations

import os
import secrets

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "PYTHONWARNINGS": "ignore",
}
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""For workers. Tune runs every trial in a thread of its own, glibc gives threads heaps of their own (eight a core), and
each would keep what the largest training in it took: nine gigabytes after twenty trainings of a small GPT."""
_OF_OUR_OWN = {
    **ONE_ARENA,
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name: "no cluster", every socket on 127.0.0.1
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # or Ray writes one into the home directory
}


def settle(address: str | None) -> None:
    """For a Ray of our own (no address): loopback only, with a token of this process. A cluster's tokens are the
    user's."""
    os.environ.update(_QUIET if address else _QUIET | _OF_OUR_OWN)
