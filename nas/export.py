"""A function of a study as a Python file that imports torch only, with a JSON file beside it."""

from __future__ import annotations

import importlib.util
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import torch

from analysis.leaderboard import leaderboard
from analysis.store import Store
from analysis.trials import to_records
from search_spaces.codegen import to_source
from search_spaces.compile import to_function
from search_spaces.expression import Expression, params, variables
from search_spaces.known import KNOWN
from search_spaces.parser import parse
from search_spaces.sympy_bridge import ask
from search_spaces.values import GRID
from trainers.trial import DIRECTIONS, TEST_METRICS


class ExportError(ValueError):
    """Nothing to export, or a file that does not compute what it should."""


def export_top(run: Path, top: int, out: Path) -> list[Path]:
    """Export the best ``top`` functions that the search of a run found (baselines are not finds).

    Returns the paths of the Python files, best first.

    Raises:
        ExportError: the run has no completed function, or ``out`` cannot be written.
    """
    with Store.open(run) as store:
        rows = leaderboard(store)
        facts = {key: store.get(key) for key in ("config", "nas_version", "created")}
    rows = rows[(rows["state"] == "COMPLETE") & rows["found"]].head(top)
    if rows.empty:
        raise ExportError(f"{run} has no completed function to export yet")
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [_export(row, run, facts, out) for row in to_records(rows)]
    except OSError as error:
        raise ExportError(f"{out} cannot be written ({error.strerror or error}); choose another --out") from error


def _export(row: dict[str, Any], run: Path, facts: dict[str, Any], out: Path) -> Path:
    expression = parse(row["formula"])
    if set(variables(expression)) != {"x"}:
        raise ExportError(f"{run} holds {row['formula'][:200]!r}, which is no function of x")
    name = class_name(row["name"], row["function_key"])
    path = out / f"{name.lower()}.py"
    draft = out / f".{name.lower()}.py"
    try:
        found_in = _found_in(row, run, facts)
    except (KeyError, TypeError) as error:  # somebody else's file may hold anything
        raise ExportError(
            f"{run} has a configuration that no search writes ({type(error).__name__}: {error}), so it cannot be said "
            "where its functions were found"
        ) from error
    draft.write_text(module_source(expression, name, found_in), encoding="utf-8")
    try:
        self_check(draft, name, expression)
    except BaseException:
        draft.unlink()
        raise
    draft.replace(path)
    card = {
        "class": name,
        "formula": row["formula"],
        "latex": ask("forms", expression, 10.0).get("latex"),
        "known_name": row["name"],
        "likeness": row["likeness"],
        "parameters": list(params(expression)),
        "function_key": row["function_key"],
        "val_accuracy": {"mean": row["val_accuracy"], "std": row["val_accuracy_std"]},
        "val_loss": {"mean": row["val_loss"], "std": row["val_loss_std"]},
        "seeds": row["seeds"],
        "val_bpb": {"mean": row["val_bpb"], "std": row["val_bpb_std"]},
        **{name: {"mean": row[name], "std": row[f"{name}_std"]} for name in TEST_METRICS},
        "stage": row["stage"],
        "vs_relu": {
            "metric": row["metric"],
            "mean": row["vs_relu"],
            "ci95": row["vs_relu_ci95"],
            "holm_p": row["vs_relu_holm"],
            "race": row["race"],
        },
        "rank": row["rank"],
        "run": run.resolve().name,
        "failed_seeds": row["n_failed"],
        **facts,
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return path


def class_name(known_name: str | None, key: str) -> str:
    """``SiLU`` for a known function whose name makes an identifier, else one made from the key."""
    name = re.sub(r"[^A-Za-z0-9]", "", known_name or "") if known_name in KNOWN else ""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name):
        return name[0].upper() + name[1:]
    return "Act" + re.sub(r"[^A-Za-z0-9]", "", key)[:6]


def module_source(expression: Expression, name: str, found_in: str) -> str:
    """The text of a standalone module with a function and an ``nn.Module`` of that class name."""
    source = to_source(expression)
    names = params(expression)
    function = name.lower()
    code = "\n".join((*source.statements, source.result))
    imports = ["import math\n"] if "math." in code else []
    imports += ["import torch", "import torch.nn.functional as F"] if "F." in code else ["import torch"]
    body = "".join(f"    {line}\n" for line in (*source.statements, f"return {source.result}"))
    arguments = "".join(f", {p}: Tensor" for p in names)
    head = (
        f'"""{name}: an activation function found by a search.\n\n    f(x) = {expression}\n\n{found_in}'
        f'"""\n\n' + "\n".join(imports) + "\nfrom torch import Tensor, nn\n\n\n"
        f"def {function}(x: Tensor{arguments}) -> Tensor:\n"
        f'    """{expression}, pointwise; any shape, any floating dtype."""\n{body}\n\n'
    )
    return head + (_learnable(name, function, expression, names) if names else _plain(name, function, expression))


def _plain(name: str, function: str, expression: Expression) -> str:
    return f'''class {name}(nn.Module):
    """f(x) = {expression}

    Input and output: any shape, any floating dtype.
    """

    def forward(self, x: Tensor) -> Tensor:
        return {function}(x)
'''


def _learnable(name: str, function: str, expression: Expression, names: tuple[str, ...]) -> str:
    registered = "\n".join(f"        self.{p} = nn.Parameter(torch.ones(num_parameters))" for p in names)
    passed = ", ".join(f"self._shaped(self.{p}, x)" for p in names)
    return f'''class {name}(nn.Module):
    """f(x) = {expression}, with learnable {", ".join(names)} (initial value 1)

    Args:
        num_parameters: 1 for values shared by all channels, or the number of channels for one value a channel.
        channel_dim: the input's dimension that holds the channels (1 for images, -1 for transformers).

    Input and output: any shape, any floating dtype.
    """

    def __init__(self, num_parameters: int = 1, channel_dim: int = 1) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.channel_dim = channel_dim
{registered}

    def forward(self, x: Tensor) -> Tensor:
        return {function}(x, {passed})

    def _shaped(self, parameter: Tensor, x: Tensor) -> Tensor:
        shape = [1] * x.dim()
        if self.num_parameters > 1:
            shape[self.channel_dim] = self.num_parameters
        return parameter.to(x.dtype).view(shape)

    def extra_repr(self) -> str:
        return f"num_parameters={{self.num_parameters}}"
'''


def _measured(row: dict[str, Any], n: int) -> str:
    """The study's metric over n seeds, and its difference to ReLU's."""
    metric = row["metric"]
    is_accuracy = metric.endswith("accuracy")
    scale, digits, unit = (100, 2, " points") if is_accuracy else (1, 4, "")
    name = {"val_accuracy": "Validation accuracy", "test_accuracy": "Test accuracy"}.get(metric, metric)
    text = f"{name} {scale * row['value']:.{digits}f}{' %' if is_accuracy else ''} over {n} seed(s)"
    if n > 1:
        text += f" (standard deviation {scale * row['value_std']:.{digits}f})"
    if row["vs_relu"] is not None:
        text += f", {scale * row['vs_relu']:+.{digits}f}{unit} against ReLU on the same seeds"
        if row["vs_relu_ci95"] is not None:
            text += f", 95 % interval ± {scale * row['vs_relu_ci95']:.{digits}f}"
    return text if DIRECTIONS[metric] == "max" else f"{text} (smaller is better)"


def _found_in(row: dict[str, Any], run: Path, facts: dict[str, Any]) -> str:
    """Where it was found and how well it did, for the file's docstring."""
    config = facts["config"]
    n = int(row["n_seeds"])
    measured = _measured(row, n)
    found = (
        f"Found by {config['strategy']['name']} over the space {config['space']['name']}, training "
        f"{config['model']['name']} on {config['data']['name']} for {config['trial']['epochs']} epochs a candidate. "
        f"{measured}." + (f" {row['n_failed']} further seed(s) failed." if row["n_failed"] else "")
    )
    if params(parse(row["formula"])):
        site = {"channel": "one value a channel", "scalar": "one value a layer"}[config["trial"]["param_shape"]]
        found += f" Its learnable parameters had {site} there."
    cite = (
        f"To cite it: nas {facts['nas_version']}, run {run.resolve().name} of {facts['created']}, "
        f"function {row['function_key']}."
    )
    # Names come from a configuration or a folder: in a docstring they must not end it, nor escape anything.
    plain = ("".join(c if c.isprintable() and c not in '\\"' else "_" for c in text) for text in (found, cite))
    return "\n\n".join(textwrap.fill(paragraph, 100) for paragraph in plain) + "\n"


def self_check(path: Path, name: str, expression: Expression) -> None:
    """Import the written file and compare values and gradients with the expression in float64."""
    spec = importlib.util.spec_from_file_location(f"_exported_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    act = getattr(module, name)().double()
    ones = {p: torch.ones(1, dtype=torch.float64) for p in params(expression)}
    results = []
    for function in (act, lambda x: to_function(expression)(x, **ones)):
        x = torch.from_numpy(GRID.copy()).requires_grad_()
        value = function(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        results.append((value.detach(), gradient))
    for ours, theirs in zip(*results, strict=True):
        if not torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12, equal_nan=True):
            raise ExportError(f"the exported {name} does not compute {expression}; please report this")
