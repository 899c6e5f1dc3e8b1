"""What the shell completes: names and paths for the arguments of the commands.

It runs at every press of Tab. So nothing of ours is imported: names are read where they are registered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from nas.shipped import shipped_comparisons, shipped_searches

_HERE = Path(__file__).parent
_REGISTERED = re.compile(r'^@(?:strategies|spaces)\.register\("(\w+)"\)', re.MULTILINE)
_ONE_WORD = re.compile(r"[\w^+-]+")


def experiments(incomplete: str) -> list[str]:
    """Shipped configurations of searches, and YAML files."""
    return [*_beginning(incomplete, shipped_searches()), *_files(incomplete)]


def comparisons(incomplete: str) -> list[str]:
    """Shipped configurations for ``nas compare``, and YAML files."""
    return [*_beginning(incomplete, shipped_comparisons()), *_files(incomplete)]


def functions(incomplete: str) -> list[str]:
    """Named functions, and the best finds of runs: RUN:best."""
    return [*zoo(incomplete), *(f"{run}:best" for run in runs(incomplete))]


def zoo(incomplete: str) -> list[str]:
    """Names of the zoo, but for those that a shell would have to quote, such as '2017: cos(x) - x'."""
    cards = (json.loads(_read(path)) for path in (_HERE / "modules" / "activations" / "zoo").glob("*.json"))
    names = [card["name"] for card in sorted(cards, key=lambda card: card["order"])]
    return _beginning(incomplete, [name for name in names if _ONE_WORD.fullmatch(name)])


def strategies(incomplete: str) -> list[str]:
    """Names of strategies."""
    return _beginning(incomplete, _registered((_HERE / "strategies").glob("*.py")))


def spaces(incomplete: str) -> list[str]:
    """Names of search spaces, and YAML files."""
    names = _registered([_HERE.parent / "search_spaces" / "presets.py"])
    return [*_beginning(incomplete, names), *_files(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Directories of studies: those in ./runs, and where the word so far leads."""
    return _folders_with("study.db", incomplete, "runs/")


def tables(incomplete: str) -> list[str]:
    """Folders that ``nas table`` wrote: those in ./tables, and where the word so far leads."""
    return _folders_with("functions.parquet", incomplete, "tables/")


def experiments_or_runs(incomplete: str) -> list[str]:
    """For ``nas table``, which begins with the one and goes on with the other."""
    return [*experiments(incomplete), *runs(incomplete)]


def _folders_with(file: str, incomplete: str, usual: str) -> list[str]:
    begins = {incomplete, usual} if usual.startswith(incomplete) else {incomplete}
    return sorted(name.removesuffix(f"/{file}") for begin in begins for name in _matching(begin, f"*/{file}"))


def _files(incomplete: str) -> list[str]:
    return sorted(_matching(incomplete, "*.yaml"))


def _matching(begin: str, pattern: str) -> Iterator[str]:
    """Paths that begin so, spelled as they were begun."""
    folder, slash, start = begin.rpartition("/")
    try:
        paths = list(Path(folder + slash or ".").expanduser().glob(pattern))
    except (OSError, ValueError, RuntimeError):  # no such folder, no path at all, nobody's ~
        return
    names = ("/".join(path.parts[-pattern.count("/") - 1 :]) for path in paths)
    yield from (folder + slash + name for name in names if name.startswith(start))


def _registered(paths: Iterable[Path]) -> list[str]:
    return sorted(name for path in paths for name in _REGISTERED.findall(_read(path)))


def _beginning(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
