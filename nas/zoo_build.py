"""Writes the zoo: python -m nas.zoo_build [--tables tables] [--folder nas/modules/activations/zoo]

For who changes the known functions, the exporter or the tables; the files are part of the package. A card holds

- ``name``, ``class``, ``module`` (the file's name), ``order``, ``formula``, ``latex``, ``parameters``, ``complexity``
  (nodes), ``source`` (who published it) and ``sha256`` of the module;
- ``results``: for each table that has the function, ``task``, ``seeds``, ``mean`` and ``std`` of the validation
  accuracy, and the difference to ReLU over matched seeds, ``vs_relu``, with the half width of its 95 % interval of t;
- ``cost``: ``x_silu``, forward and backward of ``nas.Activation`` by F.silu's time, and where that was ``measured``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats

from nas.activation import Activation
from nas.export import sha256
from nas.exported import class_name, module_source, self_check
from nas.zoo import FOLDER
from search_spaces.expression import params, size
from search_spaces.known import KNOWN
from search_spaces.parser import parse
from search_spaces.sympy_bridge import ask

_PAPER = "Ramachandran, Zoph and Le 2017, arXiv 1710.05941"
SOURCES = {
    "identity": "",
    "ReLU": "Nair and Hinton 2010",
    "LeakyReLU": "Maas, Hannun and Ng 2013",
    "PReLU": "He et al. 2015, arXiv 1502.01852",
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
}
"""Names that make no identifier by themselves."""


def build(folder: Path, tables: Path, measured: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results = [task_results(path) for path in sorted(tables.glob("*_cifar10"))]
    made = {}
    for order, name in enumerate(KNOWN):
        card = _write(folder, name, order, [found[name] for found in results if name in found], measured)
        made[card["class"]] = card["module"]
    imports = (f"from nas.modules.activations.zoo.{module} import {cls} as {cls}\n" for cls, module in _sorted(made))
    text = '"""Known activation functions as modules; ``nas zoo`` lists them. Written by nas.zoo_build."""\n\n'
    (folder / "__init__.py").write_text(text + "".join(imports), encoding="utf-8")


def _sorted(made: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(made.items(), key=lambda pair: pair[1])


def module_of(name: str) -> tuple[str, str]:
    """Class and text of a known function's module."""
    cls = CLASSES.get(name) or class_name(name, "")
    return cls, module_source(parse(KNOWN[name]), cls, about(name))


def about(name: str) -> str:
    source = SOURCES.get(name, _PAPER if name.startswith("2017: ") else "")
    return f"{name}{f': {source}' if source else ''}.\n"


def _write(folder: Path, name: str, order: int, results: list[dict[str, Any]], measured: str) -> dict[str, Any]:
    expression = parse(KNOWN[name])
    cls, text = module_of(name)
    path = folder / f"{cls.lower()}.py"
    path.write_text(text, encoding="utf-8")
    self_check(path, cls, expression)
    card = {
        "name": name,
        "class": cls,
        "module": path.stem,
        "order": order,
        "formula": KNOWN[name],
        "latex": ask("forms", expression, 10.0).get("latex"),
        "parameters": list(params(expression)),
        "complexity": size(expression),
        "source": about(name).strip().rstrip(".").partition(": ")[2] if not name.startswith("2017") else _PAPER,
        "results": results,
        "cost": {"x_silu": round(relative_cost(name), 2), "measured": measured},
        "sha256": sha256(path),
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


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
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--measured", default="float32, 1,000,000 values, one core of an AMD EPYC")
    args = parser.parse_args()
    build(args.folder, args.tables, args.measured)


if __name__ == "__main__":
    main()
