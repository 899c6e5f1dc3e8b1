"""What is said where a study was expected and there is none, or none that can be read."""

from __future__ import annotations

import difflib
from pathlib import Path

FILE_NAME = "study.db"


class StoreError(ValueError):
    """A directory that is not a study, or a study that cannot be used."""


_TOLD = 3
"""Studies of a folder that are named where the folder was given for one."""


def no_study(run: Path) -> StoreError:
    """With the studies that may have been meant."""
    usual = Path("runs") / run
    if run.name == FILE_NAME and run.is_file():
        why = f"it is a file; give its directory: {run.parent}"
    elif (usual / FILE_NAME).is_file():
        why = f"did you mean {usual}?"
    elif not run.exists():
        why = _missing(run)
    elif studies := sorted(path.parent for path in run.glob(f"*/{FILE_NAME}")):
        more = f" and {len(studies) - _TOLD} more" if len(studies) > _TOLD else ""
        why = f"there is no {FILE_NAME} in it; it holds studies: {', '.join(map(str, studies[:_TOLD]))}{more}"
    else:
        why = f"there is no {FILE_NAME} in it"
    return StoreError(f"{run} is not a study's directory: {why}")


def _missing(run: Path) -> str:
    beside = {path.parent.name: path.parent for path in run.parent.glob(f"*/{FILE_NAME}")}
    if close := difflib.get_close_matches(run.name, beside, 1):
        return f"it does not exist; did you mean {beside[close[0]]}?"
    return "it does not exist" if run.is_absolute() else f"it does not exist in {Path.cwd()}"


def unreadable(path: Path, error: Exception) -> StoreError:
    why = " ".join(str(error).split())[:300]
    return StoreError(
        f"{path} cannot be read as a study ({type(error).__name__}: {why}); what can be read of it: "
        f"nas check {path.parent} --recover DIR"
    )
