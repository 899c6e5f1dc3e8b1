"""What was searched, with what, and on what: the facts at both ends of a report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from analysis.leaders import Leaders
from analysis.report.parts import Section, Table
from analysis.study import Study, is_evaluation
from analysis.wording import label, shorten


def searched(study: Study) -> tuple[tuple[str, str], ...]:
    """Pairs of a word and a text, for the head of a report."""
    config, about = study.config, study.about
    trial, search = _section(config, "trial"), _section(config, "search")
    proposals = _section(about, "proposals")
    spared = [f"{proposals[name]} {name}" for name in ("duplicates", "filtered") if proposals.get(name)]
    stages = {stage: part["function_key"].nunique() for stage, part in study.trials.groupby("stage")}
    confirmed = stages.get("confirm", 0)
    given = is_evaluation(config)
    facts = [
        ("Functions", "given: nothing was searched" if given else ""),
        ("Space", "" if given else _component(config, "space")),
        ("Strategy", "" if given else _component(config, "strategy")),
        ("Model", _component(config, "model")),
        ("Data", _component(config, "data")),
        ("Objective", label(study.objective)),
        ("Budget", _budget(trial, search, config.get("pruning"))),
        (
            "Trained",
            f"{len(study.trials):,} trainings" + ("" if given else f"; {stages.get('search', 0):,} functions searched"),
        ),
        ("Retrained", f"{stages.get('retrain', 0):,} functions, with fresh seeds" if stages.get("retrain") else ""),
        ("Confirmed", f"{confirmed:,} functions, on the test set" if confirmed else "none: the test set was not used"),
        ("Not trained", ", ".join(spared)),
        ("Begun", moment(about.get("created"))),
    ]
    return tuple((word, shorten(text, 300)) for word, text in facts if text)


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _component(config: Mapping[str, Any], name: str) -> str:
    """Such as ``resnet8 (width 16)``."""
    found = config.get(name)
    if not isinstance(found, Mapping):
        return "" if found is None else str(found)
    options = ", ".join(f"{key} {value}" for key, value in found.items() if key not in ("name", "root"))
    return f"{found.get('name', '')}{f' ({options})' if options else ''}"


def _budget(trial: Mapping[str, Any], search: Mapping[str, Any], pruning: Any) -> str:
    parts = [f"{trial[key]} {word}" for key, word in (("epochs", "epochs"), ("max_steps", "steps")) if trial.get(key)]
    text = " or ".join(parts) + (" a training" if parts else "")
    limits = [f"{search[key]} {word}" for key, word in (("trials", "functions"), ("minutes", "min")) if search.get(key)]
    text += f", up to {' or '.join(limits)}" if limits else ""
    if isinstance(pruning, Mapping) and pruning.get("rungs"):
        text += f", stopped early after {' or '.join(map(str, pruning['rungs']))} epochs if behind"
    return text.removeprefix(", ")


def configuration(study: Study, chosen: Leaders) -> Section:
    """Everything that is needed to do it again."""
    about = study.about
    machine = _section(about, "machine")
    packages = _section(machine, "packages")
    gpus = machine.get("gpus")
    facts = {
        "nas": about.get("nas_version"),
        "code": machine.get("code"),
        "Python": machine.get("python"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "system": machine.get("system"),
        "processor": machine.get("processor"),
        "cores": machine.get("cores"),
        "GPUs": ", ".join(map(str, gpus)) if isinstance(gpus, list) and gpus else "none" if machine else "",
        "precision": about.get("precision"),
        "begun": moment(about.get("created")),
        "seconds searched": f"{about['search_seconds']:,.0f}" if about.get("search_seconds") else "",
    }
    rows = tuple((name, shorten(value, 400)) for name, value in facts.items() if value)
    settings = _section(about, "settings")
    files = {"config.yaml": study.config} | {f"{shorten(name, 80)}.yaml": found for name, found in settings.items()}
    commands = _commands(study, [name for name in files if name != "config.yaml"])
    return Section(
        "Configuration, versions, hardware",
        "The configuration as it was resolved, with all defaults. To do it again, save each block under its name and "
        "give what stands at the end.",
        "Trials that run side by side end in a different order each time, and strategies learn from that order; so "
        "another run finds other functions, and figures agree within noise only. The seed fixes what each training "
        "starts from.",
        tables=(Table(("", ""), rows),) if rows else (),
        files=tuple(
            (name, yaml.safe_dump(config, sort_keys=False, allow_unicode=True)) for name, config in files.items()
        ),
        command="\n".join(commands),
    )


def _commands(study: Study, others: list[str]) -> list[str]:
    """Lines that do it again: the search, and the confirmation as far as it went."""
    confirmed = study.trials[study.trials["stage"] == "confirm"]
    if confirmed.empty:
        return ["nas search config.yaml"]
    known = set(study.trials.loc[study.trials["stage"] == "search", "function_key"])
    top = len(known & set(confirmed["function_key"]))
    also = "".join(f" --also {shlex.quote(name)}" for name in others)
    seeds = confirmed["seed"].nunique()
    return ["nas search config.yaml --run again", f"nas confirm again --top {max(1, top)} --seeds {seeds}{also}"]


def moment(created: object) -> str:
    """``2026-01-31 12:00:00 UTC`` of a time as it is stored."""
    return "" if created is None else str(created).replace("T", " ").replace("+0000", " UTC")
