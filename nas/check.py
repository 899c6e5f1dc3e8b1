"""Whether a run is whole: its store, and the strategy's memory of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from analysis.check import faults
from analysis.store import Store
from nas.config import restore_config
from nas.search import Search
from search_spaces.values import one_thread


def check_run(run: Path) -> tuple[list[str], dict[str, int]]:
    """What is wrong with a run, and how many trials are in which state.

    The stored events are replayed: a strategy that was asked then as it is asked now answers as it did then, or its
    state would not be that of an undisturbed run with the same history.

    Raises:
        StoreError: this is no study.
    """
    with Store.open(run) as store:
        found, states = faults(store), store.count_states()
        if not found:
            with tempfile.TemporaryDirectory(prefix="nas-check-") as folder:
                with store.copy(Path(folder)) as copy, one_thread():
                    search = Search(restore_config(copy.get("config")), copy)
                if search.strangers:
                    found.append(
                        "asked again, the strategy proposes something else in place of trials "
                        f"{search.strangers[:10]}: its code has changed since, or its state was not restored"
                    )
    return found, states
