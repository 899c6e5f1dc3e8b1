"""Describing a search space: what it is made of, and how many different functions it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from nas.yaml_config import ConfigError, apply_override, read_yaml
from search_spaces.canonical import simplify
from search_spaces.census import LIMIT, Census, pick, take_census
from search_spaces.equivalence import LEVELS, Level
from search_spaces.presets import spaces
from search_spaces.recognition import likeness
from search_spaces.registry import nearest
from search_spaces.space import SearchSpace


def load_space(name: str, overrides: list[str]) -> tuple[dict[str, Any], SearchSpace]:
    """A space from the name of a preset or from a YAML file, which is a space or an experiment with a section for it.

    Returns its name and options, and the space.

    Raises:
        ConfigError: with all faults.
    """
    values: dict[str, Any] = {"name": name}
    if name not in spaces.names():
        values = read_yaml(Path(name), f"no such file, nor a search space; {nearest(name, spaces.names())}")
        values = values.get("space", values)
    if not isinstance(values, dict) or not isinstance(values.get("name"), str):
        raise ConfigError(name, [f"a space is a mapping with a name, one of {', '.join(spaces.names())}"])
    faults = [fault for text in overrides if (fault := apply_override(values, text))]
    options, found = spaces.check(values["name"], {key: value for key, value in values.items() if key != "name"})
    if values == {"name": name} and found:
        found = [f"{fault}; write the space into a YAML file and give that, or add KEY=VALUE" for fault in found]
    if faults + found:
        raise ConfigError(name, faults + found)
    try:
        return {"name": values["name"], **options}, spaces.get(values["name"])(**options)
    except ValueError as error:
        raise ConfigError(name, [" ".join(str(error).split())]) from error


def count(space: SearchSpace, level: Level) -> Census | None:
    """The census of a space; None for one that is too large to enumerate."""
    return take_census(space, level) if space.size <= LIMIT else None


def write_functions(space: SearchSpace, census: Census | None, path: Path, trainable: bool) -> int:
    """Write one expression a line, the simplest spelling of each function after the rewrite rules. Returns how many.

    Raises:
        ConfigError: the space is too large, or the file cannot be written.
    """
    if census is None:
        raise ConfigError("--enumerate", [f"a space is enumerated up to {LIMIT:,} spellings, this has {space.size:,}"])
    numbers = census.chosen(trainable)
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{simplify(expression)}\n" for _, expression in pick(space, numbers))
    except OSError as error:
        raise ConfigError("--enumerate", [f"{path} cannot be written ({error.strerror})"]) from error
    return len(numbers)


def as_json(options: dict[str, Any], space: SearchSpace, census: Census | None, level: Level) -> str:
    facts: dict[str, Any] = {"space": options, **space.description, "spellings": space.size, "equivalence": level}
    if census is not None:
        facts |= {name: getattr(census, name) for name in ("spellings", "functions", "finite", "trainable")}
        facts["largest"] = [
            {"spellings": entry.spellings, "expression": str(simplify(entry.expression))} for entry in census.largest
        ]
        facts |= {"seconds": round(census.seconds, 3), "peak_mb": round(census.peak_mb)}
    return json.dumps(facts, indent=2)


def as_table(options: dict[str, Any], space: SearchSpace, census: Census | None, level: Level) -> Group:
    """For a terminal."""
    title = Text(str(options["name"]), style="bold")
    given = ", ".join(f"{key}={value}" for key, value in options.items() if key != "name")
    if given:
        title.append(f"  {given}", style="dim")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for heading, rows in space.description.items():
        label = heading if heading in ("shape", "only", "leaves") else f"{len(rows)} {heading}"
        grid.add_row(label, Text("   ".join(rows)))
    parts: list[Any] = [title, grid, Text("")]
    if census is None:
        reason = f"functions are counted up to {LIMIT:,} spellings"
        return Group(*parts, Text(f"spellings  {space.size:,}  ({reason})"))
    return Group(*parts, _counts(census, level), Text(""), _classes(census))


def _counts(census: Census, level: Level) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    sameness = "" if level == "exact" else f"; {LEVELS[level]}"
    for label, number, remark in (
        ("spellings", census.spellings, ""),
        ("functions", census.functions, f"different in float64, by value and slope{sameness}"),
        ("finite", census.finite, "for inputs within ±3.1, the quantiles of N(0,1)"),
        ("trainable", census.trainable, "finite and not affine: what a search trains"),
    ):
        table.add_row(label, f"{number:,}", remark)
    speed = census.spellings / census.seconds
    table.add_row("time", f"{census.seconds:.1f} s", f"{speed:,.0f} spellings/s; peak memory {census.peak_mb:,.0f} MB")
    return table


def _classes(census: Census) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("spellings", justify="right")
    table.add_column("the largest classes")
    for entry in census.largest:
        text = Text(str(simplify(entry.expression)))
        if found := likeness(entry.expression):
            text.append(f"  {found}", style="cyan")
        table.add_row(f"{entry.spellings:,}", text)
    return table
