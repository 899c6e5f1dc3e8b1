"""Writes the zoo: python -m nas.zoo_build [--tables tables] [--studies docs/studies] [--keep-costs]

For who changes the known functions, the exporter or the tables; the files are part of the package. A card holds

- ``name``, ``class``, ``module`` (the file's name), ``order``, ``formula``, ``latex``, ``parameters``, ``complexity``
  (nodes), ``source`` (who published it) and ``sha256`` of the module;
- ``results``: for each table that has the function, ``task``, ``seeds``, ``mean`` and ``std`` of the validation
  accuracy, and the difference to ReLU over matched seeds, ``vs_relu``, with the half width of its 95 % interval of t;
- ``confirmed``: for each published study and setting that confirmed the function, ``study``, ``setting``, ``model``,
  ``data``, ``seeds``, ``metric`` (on the test set), its ``mean`` and ``std``, and ``vs_relu``, ``vs_relu_ci95`` and
  ``vs_relu_holm`` as the study's leaderboard has them;
- ``cost``: ``x_silu``, forward and backward of ``nas.Activation`` by F.silu's time, and where that was ``measured``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats

from analysis.study import Study
from analysis.trials import to_records
from nas.activation import Activation
from nas.export import sha256
from nas.exported import class_name, module_source, self_check
from nas.zoo import FOLDER
from search_spaces.expression import params, size
from search_spaces.known import FOUND, NAMED, recognize
from search_spaces.parser import parse
from search_spaces.sympy_bridge import ask

_OURS = "found by nas, docs/studies"
_PAPER = "Ramachandran, Zoph and Le 2017, arXiv 1710.05941"
SOURCES = {
    "identity": "",
    "ReLU": "Nair and Hinton 2010",
    "LeakyReLU": "Maas, Hannun and Ng 2013",
    "PReLU": "He et al. 2015, arXiv 1502.01852, beta from 0.25",
    "ReLU6": "Krizhevsky 2010",
    "ELU": "Clevert, Unterthiner and Hochreiter 2015, arXiv 1511.07289",
    "CELU": "Barron 2017, arXiv 1704.07483",
    "SELU": "Klambauer et al. 2017, arXiv 1706.02515",
    "GELU": "Hendrycks and Gimpel 2016, arXiv 1606.08415",
    "GELU (tanh)": "Hendrycks and Gimpel 2016, arXiv 1606.08415",
    "SiLU": "Elfwing, Uchibe and Doya 2017, arXiv 1702.03118",
    "Swish": _PAPER,
    "Mish": "Misra 2019, arXiv 1908.08681",
    "Softplus": "Dugas et al. 2001",
    "HardSwish": "Howard et al. 2019, arXiv 1905.02244",
    "ReLU^2": "So et al. 2021, arXiv 2109.08668",
    "GoLU": "arXiv 2502.03654",
    "TanhExp": "arXiv 2003.09855",
    "Swish-T": "arXiv 2407.01012",
    "xIELU": "arXiv 2411.13010",
    "GELU + 0.1 sin": "",
    "penalized tanh": "Xu, Huang and Li 2016, arXiv 1602.05980",
    "LiSHT": "Roy et al. 2019, arXiv 1901.05894",
    "HardSigmoid": "Courbariaux, Bengio and David 2015, arXiv 1511.00363",
    "HardTanh": "Collobert 2004",
    "softsign": "Turian, Bergstra and Bengio 2009",
}
CLASSES = {
    "2017: max(x, sigmoid)": "MaxSigmoid",
    "2017: cos(x) - x": "CosMinusX",
    "2017: min(x, sin)": "MinSin",
    "2017: atan(x)^2 - x": "AtanSquareMinusX",
    "2017: max(x, tanh)": "MaxTanh",
    "2017: sinc(x) + x": "SincPlusX",
    "2017: x asinh(x)^2": "XAsinhSquare",
    "GELU + 0.1 sin": "GELUSin",
    "two slopes": "TwoSlopes",
    "line - ReLU": "LineMinusReLU",
    "squared gain": "SquaredGain",
    "sin / cosh": "SinOverCosh",
    "sin to line": "SinToLine",
}
"""Names that make no identifier by themselves."""


def build(folder: Path, tables: Path, studies: Path, measured: str, keep_costs: bool = False) -> None:
    """Write all modules and cards; ``measured`` says where costs are, which may be kept of the cards that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    results = [task_results(path) for path in sorted(tables.glob("*_cifar10"))]
    confirmed = [row for path in sorted(studies.glob("*/study.db")) for row in study_results(path.parent)]
    made = {}
    for order, name in enumerate(NAMED):
        card = _write(folder, name, order, measured, keep_costs)
        card["results"] = [found[name] for found in results if name in found]
        card["confirmed"] = once(row for key, row in confirmed if key == name)
        (folder / f"{card['module']}.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        made[card["class"]] = card["module"]
    imports = (f"from nas.modules.activations.zoo.{module} import {cls} as {cls}\n" for cls, module in _sorted(made))
    text = '"""Known activation functions as modules; ``nas zoo`` lists them. Written by nas.zoo_build."""\n\n'
    (folder / "__init__.py").write_text(text + "".join(imports), encoding="utf-8")


def once(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without those that another study trained before: the same seeds in the same setting have the same results."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        found.setdefault((row["model"], row["data"], row["mean"], row["std"]), row)
    return list(found.values())


def _sorted(made: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(made.items(), key=lambda pair: pair[1])


def module_of(name: str) -> tuple[str, str]:
    """Class and text of a known function's module."""
    cls = CLASSES.get(name) or class_name(name, "")
    return cls, module_source(parse(NAMED[name]), cls, about(name))


def about(name: str) -> str:
    source = SOURCES.get(name, _PAPER if name.startswith("2017: ") else _OURS if name in FOUND else "")
    return f"{name}{f': {source}' if source else ''}.\n"


def _write(folder: Path, name: str, order: int, measured: str, keep_cost: bool) -> dict[str, Any]:
    """The module, and all of its card but for what it is worth."""
    expression = parse(NAMED[name])
    cls, text = module_of(name)
    path = folder / f"{cls.lower()}.py"
    path.write_text(text, encoding="utf-8")
    self_check(path, cls, expression)
    earlier = path.with_suffix(".json")
    if keep_cost and earlier.exists():
        cost = json.loads(earlier.read_text(encoding="utf-8"))["cost"]
    else:
        cost = {"x_silu": round(relative_cost(name), 2), "measured": measured}
    return {
        "name": name,
        "class": cls,
        "module": path.stem,
        "order": order,
        "formula": NAMED[name],
        "latex": ask("forms", expression, 10.0).get("latex"),
        "parameters": list(params(expression)),
        "complexity": size(expression),
        "source": about(name).strip().rstrip(".").partition(": ")[2] if not name.startswith("2017") else _PAPER,
        "results": [],
        "confirmed": [],
        "cost": cost,
        "sha256": sha256(path),
    }


def task_results(table: Path) -> dict[str, dict[str, Any]]:
    """What a table says of the functions that have a name: those whose trainings all completed."""
    functions = pd.read_parquet(table / "functions.parquet")
    trainings = pd.read_parquet(table / "trainings.parquet")
    done = trainings[trainings["state"] == "COMPLETE"].pivot(index="seed", columns="function", values="val_accuracy")
    names = functions["name"].dropna()
    relu = done[names.index[names == "ReLU"][0]]
    return {
        name: {"task": table.name, **figures(done[number], None if name == "ReLU" else relu)}
        for number, name in names.items()
        if number in done and done[number].notna().all()
    }


def study_results(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """What a published study confirmed, in each setting: names of known functions, with an entry of their cards."""
    found = []
    with Study(path) as study:
        settings: dict[str | None, Any] = {None: study.config}
        settings |= {name: study.about["settings"][name] for name in study.settings}
        for setting, config in settings.items():
            rows = study.leaderboard(setting=setting)
            for row in to_records(rows[rows["stage"] == "confirm"]):
                name = recognize(parse(row["expression"]))
                if name is not None:
                    found.append((name, _confirmed(path.name, setting or config["name"], config, row)))
    return found


def _confirmed(study: str, setting: str, config: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    where = {"study": study, "setting": setting, "model": config["model"]["name"], "data": config["data"]["name"]}
    numbers = {"mean": row["value"], "std": row["value_std"]}
    numbers |= {key: row[key] for key in ("vs_relu", "vs_relu_ci95", "vs_relu_holm")}
    rounded = {key: None if value is None else float(f"{value:.6g}") for key, value in numbers.items()}
    return {**where, "metric": row["metric"], "seeds": row["n_seeds"], **rounded}


def figures(values: pd.Series, relu: pd.Series | None) -> dict[str, Any]:
    """Mean and standard deviation over seeds, and the paired difference to ReLU with its 95 % interval."""
    found: dict[str, Any] = {"seeds": len(values), "mean": round(values.mean(), 4), "std": round(values.std(), 4)}
    if relu is None:
        return {**found, "vs_relu": None, "vs_relu_ci95": None}
    difference = (values - relu).to_numpy()
    half = stats.t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / np.sqrt(len(difference))
    return {**found, "vs_relu": round(float(difference.mean()), 4), "vs_relu_ci95": round(float(half), 4)}


def relative_cost(name: str, elements: int = 1_000_000, rounds: int = 25) -> float:
    """Forward and backward of ``nas.Activation`` by F.silu's, in float32 on one thread; the best of many rounds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x, dy = torch.randn(elements).requires_grad_(), torch.randn(elements)
    ours = Activation(name)
    best: dict[bool, float] = {}
    try:
        for _ in range(rounds):
            for act in (F.silu, ours):
                start = time.perf_counter()
                y = act(x)
                y.backward(dy) if y.requires_grad else None
                key = act is F.silu
                best[key] = min(best.get(key, float("inf")), time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return best[False] / best[True]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=Path("tables"))
    parser.add_argument("--studies", type=Path, default=Path("docs/studies"))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--measured", default="float32, 1,000,000 values, one core of an AMD EPYC")
    parser.add_argument("--keep-costs", action="store_true", help="of the cards that are there, for a busy machine")
    args = parser.parse_args()
    build(args.folder, args.tables, args.studies, args.measured, args.keep_costs)


if __name__ == "__main__":
    main()
