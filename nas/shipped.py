"""The experiments that come with the project. Imports nothing, for completion in the shell."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def shipped_configs() -> dict[str, Path]:
    """Their files, by bare name."""
    inside = _HERE / "configs"  # of a wheel; a source tree has them at its top
    folder = inside if inside.is_dir() else _HERE.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
