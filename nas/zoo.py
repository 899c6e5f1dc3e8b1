"""The zoo: known functions, and finds of this project that were confirmed, each as an exported module with a card."""

from __future__ import annotations

import json
import shutil
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from analysis.comparisons import SURE
from analysis.wording import kind, of_kind, shown, unit
from search_spaces.registry import nearest
from trainers.trial import DIRECTIONS

FOLDER = Path(str(files("nas.modules.activations") / "zoo"))


class ZooError(ValueError):
    """The zoo has no such function, or a copy cannot be written."""


@cache
def cards() -> dict[str, dict[str, Any]]:
    """The cards by name, in the order of the zoo; see ``nas.zoo_build`` for what they hold."""
    read = [json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")]
    return {card["name"]: card for card in sorted(read, key=lambda card: card["order"])}


def find(name: str) -> dict[str, Any]:
    """The card of that name; case does not matter. Raises ZooError."""
    by_lower = {known.lower(): card for known, card in cards().items()}
    if name.strip().lower() not in by_lower:
        raise ZooError(f"the zoo has no {name!r}; {nearest(name, cards())}")
    return by_lower[name.strip().lower()]


def copy_to(card: dict[str, Any], out: Path) -> Path:
    """Copy the module, and its card, into a folder; the module's new path. Raises ZooError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for suffix in (".py", ".json"):
            shutil.copyfile(FOLDER / f"{card['module']}{suffix}", out / f"{card['module']}{suffix}")
    except OSError as error:
        raise ZooError(f"{out} cannot be written ({error.strerror or error}); choose another --out") from error
    return out / f"{card['module']}.py"


def as_table(width: int) -> Table:
    """All of them, for a terminal of that width."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    columns = [name for name in _COLUMNS if name != "source" or width >= _WIDE]
    for column in columns:
        table.add_column(column, **_COLUMNS[column])
    for card in cards().values():
        result = next(iter(card["results"]), None)
        cells = {
            "name": Text(card["name"], style="bold"),
            "f(x)": Text(card["formula"]),
            "learns": Text(", ".join(card["parameters"])),
            "source": Text(card["source"]),
            "vs ReLU": Text("" if result is None else _result(result)),
            "better": Text(_times_better(card["confirmed"])),
            "cost": Text(f"{card['cost']['x_silu']:.1f}"),
        }
        table.add_row(*(cells[column] for column in columns))
    return table


_WIDE = 110
"""Columns of a terminal from which on there is room for sources, which every card has too."""
_COLUMNS: dict[str, dict[str, Any]] = {
    "name": {"no_wrap": True},
    "f(x)": {"overflow": "fold"},
    "learns": {},
    "source": {"overflow": "fold"},
    "vs ReLU": {"justify": "right", "no_wrap": True},
    "better": {"justify": "right", "no_wrap": True},
    "cost": {"justify": "right"},
}


def note() -> str:
    """What the columns say."""
    about = next(iter(cards().values()))["cost"]
    return (
        "vs ReLU: points of validation accuracy, with its 95 % interval over three matched seeds, in the table "
        "three_node_cifar10 (a ResNet-8 of width 8, three epochs of 8,000 images); not corrected for being many. "
        "better: in how many of the studies' settings in which it was tried it was better than ReLU on the test set, "
        "beyond chance; nas zoo NAME has the figures. "
        f"cost: forward and backward of nas.Activation, of F.silu's time ({about['measured']})."
    )


def _times_better(confirmed: list[dict[str, Any]]) -> str:
    """``2 of 4``; nothing for what no study confirmed, and for ReLU."""
    compared = [result for result in confirmed if result["vs_relu_holm"] is not None]
    signs = [(result["vs_relu"] > 0) == (DIRECTIONS[result["metric"]] == "max") for result in compared]
    better = sum(sign and result["vs_relu_holm"] < SURE for sign, result in zip(signs, compared, strict=True))
    return f"{better} of {len(compared)}" if compared else ""


def _result(result: dict[str, Any]) -> str:
    if result["vs_relu"] is None:
        return "reference"
    return f"{100 * result['vs_relu']:+.1f} ± {100 * result['vs_relu_ci95']:.1f}"


def _confirmed(result: dict[str, Any]) -> str:
    """A function on a test set: mean and standard deviation over seeds, and what that is to ReLU."""
    metric = result["metric"]
    if result["mean"] is None:
        return f"diverged, or could not learn, on {result['data']}"
    text = (
        f"{shown(result['mean'], metric)} ± {shown(result['std'], metric)} {of_kind(kind(metric)).rpartition(', ')[2]} "
        f"over {result['seeds']} seeds, test set of {result['data']}"
    )
    if result["vs_relu_holm"] is None:
        return text
    half = shown(result["vs_relu_ci95"], metric)
    difference = f"{shown(result['vs_relu'], metric, sign=True)} ± {half} {unit(metric)}"
    return f"{text}; {difference} to ReLU, p = {result['vs_relu_holm']:.1g} (Holm)"


def as_card(card: dict[str, Any]) -> Group:
    """One of them, for a terminal."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    rows = {
        "formula": card["formula"],
        "LaTeX": card["latex"],
        "learns": ", ".join(card["parameters"]) or "nothing",
        "source": card["source"],
        "cost": f"{card['cost']['x_silu']:.2f} of F.silu's time ({card['cost']['measured']})",
        "nodes": card["complexity"],
        "import": f"from nas.modules.activations.zoo import {card['class']}",
        "or": f"nas.load({card['name']!r})",
    }
    for result in card["results"]:
        spread = "" if result["vs_relu"] is None else f"; {_result(result)} points on ReLU"
        rows[result["task"]] = (
            f"{100 * result['mean']:.1f} ± {100 * result['std']:.1f} % over {result['seeds']} seeds{spread}"
        )
    for result in card["confirmed"]:
        where = (
            result["study"]
            if result["setting"].endswith(result["study"])
            else f"{result['study']}, {result['setting']}"
        )
        rows[where] = _confirmed(result)
    for name, text in rows.items():
        grid.add_row(name, Text(str(text)))
    return Group(grid)
