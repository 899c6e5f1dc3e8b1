"""``nas eval``: given functions, trained as a search would retrain them, beside the baselines.

It is a study that searches nothing: its trials are those of the stage ``retrain``, so all that runs, resumes, reads,
confirms and exports a search does the same for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from nas.config import ExperimentConfig, load_config
from nas.loading import find_expression
from nas.runs import Run
from nas.search import RETRAIN
from nas.shipped import shipped_configs
from search_spaces.equivalence import rejection
from trainers.run import screened

_NOTHING_IS_SEARCHED = (
    "search.trials=0",
    "search.minutes=null",
    "search.equivalence=exact",  # a reflection of ReLU is not to take the place of ReLU
    "pruning=null",
    "warm_start={}",
    "retrain.top=0",
)


class EvaluationError(ValueError):
    """A function that is not trained. The message says why."""


def evaluation_config(
    functions: Sequence[str], source: str, overrides: Sequence[str], seeds: int | None, baselines: bool
) -> ExperimentConfig:
    """The configuration of a study that trains these functions only, and the baselines.

    Args:
        functions: formulas, known names, ``RUN:best`` or ``RUN:RANK``.
        source: a configuration's name or file; its space and strategy have no part in it.
        overrides: of its keys.
        seeds: trainings of each; None for the configuration's ``retrain.seeds``.
        baselines: whether those of the configuration are trained too.

    Raises:
        ParseError, LoadError, StoreError: what is given is no function.
        EvaluationError: it is one that cannot work, or a configuration.
        ConfigError: all that is wrong with the configuration.
    """
    for text in functions:
        if text in shipped_configs() or text.endswith((".yaml", ".yml")):
            raise EvaluationError(f"{text} is a configuration, which comes second: nas eval FUNCTION {text}")
    expressions = [find_expression(text) for text in functions]
    reasons = [rejection(expression) for expression in expressions]
    faults = [
        f"{text} is not trained, neither here nor in a search: it is {reason}"
        for text, reason in zip(functions, reasons, strict=True)
        if reason
    ]
    if faults:
        raise EvaluationError("\n".join(faults))
    changes = [*overrides, *_NOTHING_IS_SEARCHED]
    changes += [f"retrain.functions={json.dumps([str(expression) for expression in expressions])}"]
    changes += [] if seeds is None else [f"retrain.seeds={seeds}"]
    changes += [] if baselines else ["baselines=[]"]
    load_config(source, changes)  # a strategy that is given is to be right, though nothing is asked of it
    return load_config(source, [*changes, "strategy=random"])  # which needs no preparation


def is_evaluation(config: ExperimentConfig) -> bool:
    """Whether a study searches nothing."""
    return config.search.trials == 0


def would_be_screened(run: Run) -> Iterator[str]:
    """What a search's screen says about the functions, which are trained all the same. Silent on a cluster, whose
    data may not be here."""
    config = run.config
    if not config.search.screen or (config.executor == "ray" and config.ray.address is not None):
        return
    for text in config.retrain.functions:
        trial = config.full_trial(0, RETRAIN, text, config.seed, "fp32")
        fault = screened(replace(trial, device="cpu"))
        if fault:
            yield f"A search would not train {text} (search.screen): {fault}. Here it is trained all the same."
