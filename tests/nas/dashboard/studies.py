"""Studies for the dashboard's tests."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from tests import made_studies

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
"""What must never be more than a text."""


def made(folder: Path, name: str = "tiny", *overrides: str) -> Path:
    """A finished study that trained nothing."""
    made_studies.study(folder / name, *overrides)
    return folder / name


def hostile(folder: Path, name: str = "hostile") -> Path:
    """A study whose every text is an attack on the page that shows it."""
    run = made(folder, name)
    with sqlite3.connect(run / "study.db") as db:
        config = json.loads(db.execute("SELECT value FROM study WHERE key = 'config'").fetchone()[0])
        config["strategy"]["name"] = config["model"]["name"] = HOSTILE
        config[HOSTILE] = {HOSTILE: [HOSTILE]}
        db.execute("UPDATE study SET value = ? WHERE key = 'config'", (json.dumps(config),))
        db.execute("UPDATE trials SET formula = ?, likeness = ?, reason = ?", (HOSTILE,) * 3)
        db.execute("UPDATE trials SET state = 'FAIL' WHERE id = 1")
        db.execute("UPDATE trials SET function_key = ? WHERE id = 2", ("../../'\"><script>",))
    db.close()
    return run


def touch(run: Path) -> None:
    """Something new in a study."""
    with sqlite3.connect(run / "study.db") as db:
        db.execute("UPDATE trials SET seconds = seconds + 1")
    db.close()
