"""A function of a study as a Python file that imports torch only, with a JSON file beside it."""

from __future__ import annotations

import hashlib
import json
import textwrap
from pathlib import Path
from typing import Any

from analysis.leaderboard import leaderboard
from analysis.store import Store
from analysis.trials import to_records
from nas.exported import ExportError, class_name, module_source, self_check
from search_spaces.expression import params, size, variables
from search_spaces.parser import parse
from search_spaces.sympy_bridge import ask
from trainers.trial import DIRECTIONS, TEST_METRICS


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
        "sha256": sha256(path),
        "formula": row["formula"],
        "latex": ask("forms", expression, 10.0).get("latex"),
        "known_name": row["name"],
        "likeness": row["likeness"],
        "parameters": list(params(expression)),
        "complexity": size(expression),
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


def sha256(path: Path) -> str:
    """Of a file's bytes: a card knows by it whether its module has been edited."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
