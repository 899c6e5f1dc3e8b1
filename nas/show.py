"""All about one function: formula, derivative, properties, what it is like, and what it costs."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from analysis.figures.plots import FORMATS, plot_functions
from analysis.properties import SYMPY_SECONDS, at_initial_values, properties
from nas.loading import find_expression as find_expression
from search_spaces.canonical import simplify
from search_spaces.equivalence import rejection
from search_spaces.expression import Call, Expression, params, size, walk
from search_spaces.known import known_expression
from search_spaces.recognition import likeness, nearest_known
from search_spaces.sympy_bridge import ask
from trainers.cost import relative_cost


class ShowError(ValueError):
    """Something that cannot be shown."""


def describe(expression: Expression) -> Group:
    """Everything, for a terminal."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    names = params(expression)
    found, reason = likeness(expression), rejection(expression)
    grid.add_row("formula", Text(str(simplify(expression)), style="bold"))
    if found is not None:
        grid.add_row("is", Text(str(found), style="cyan"))
    if names:
        grid.add_row("learnable", f"{', '.join(names)}; below they have their initial value, 1")
    if reason is not None:
        grid.add_row("trainable", Text(f"no: {reason}", style="red"))
    forms = ask("forms", expression, SYMPY_SECONDS)
    grid.add_row("LaTeX", Text(forms.get("latex", "not found by sympy")))
    grid.add_row("f'(x)", Text(forms.get("derivative", "not found by sympy")))
    near = nearest_known(expression, 3)
    if near:
        grid.add_row("nearest", Text("\n".join(map(str, near))))
    elif found is None:
        grid.add_row("nearest", "none of the known functions comes within 0.5 of it")
    operators = sum(isinstance(node, Call) for node in walk(expression))
    ratio = relative_cost(expression)
    grid.add_row(
        "cost",
        f"operators: {operators}, nodes: {size(expression)}; forward and backward {ratio:.1f} x ReLU in eager torch "
        "(nas.load makes one kernel of each)",
    )
    return Group(grid, Text(""), _properties(expression))


def _properties(expression: Expression) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("property", no_wrap=True)
    table.add_column("", overflow="fold")
    table.add_column("known by", style="dim")
    for entry in properties(expression):
        table.add_row(Text(entry.name), Text(entry.value), entry.source)
    return table


def plot(expression: Expression, path: Path) -> None:
    """f and f' beside those of ReLU and SiLU.

    Raises:
        ShowError: the file's suffix is no format, or it cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ShowError(f"a plot ends in {', '.join(FORMATS)}, got {path.name!r}")
    formula = str(simplify(expression))
    label = formula if len(formula) <= 32 else formula[:29] + "..."
    functions = {label: at_initial_values(expression)}
    functions |= {name: known_expression(name) for name in ("ReLU", "SiLU")}
    try:
        plot_functions(functions, path)
    except OSError as error:
        raise ShowError(f"{path} cannot be written ({error.strerror or error})") from error
