"""The experiments that come with the project. Imports nothing heavy, for completion in the shell."""

from __future__ import annotations

import re
from pathlib import Path

_HERE = Path(__file__).parent
_COMPARISON = re.compile(r"^variants:", re.MULTILINE)


def shipped_configs() -> dict[str, Path]:
    """Their files, by bare name."""
    inside = _HERE / "configs"  # of a wheel; a source tree has them at its top
    folder = inside if inside.is_dir() else _HERE.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def shipped_searches() -> list[str]:
    """Names of those that ``nas search`` takes."""
    return [name for name, path in shipped_configs().items() if not _is_comparison(path)]


def shipped_comparisons() -> list[str]:
    """Names of those that ``nas compare`` takes."""
    return [name for name, path in shipped_configs().items() if _is_comparison(path)]


def _is_comparison(path: Path) -> bool:
    return _COMPARISON.search(path.read_text(encoding="utf-8")) is not None
