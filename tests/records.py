"""Trials and results for tests that train nothing."""

from __future__ import annotations

from typing import Any

from trainers.trial import Component, Recipe, Trial, TrialResult, TrialState


def make_trial(
    trial_id: int, expression: str = "tanh(x)", stage: str = "search", seed: int = 0, **changes: Any
) -> Trial:
    return Trial(
        id=trial_id,
        stage=stage,
        expression=expression,
        seed=seed,
        model=Component("resnet8", {"width": 4}),
        data=Component("digits"),
        recipe=Recipe(),
        budget_epochs=2,
        **changes,
    )


def make_result(
    accuracy: float | None, state: TrialState = TrialState.COMPLETE, loss: float | None = None
) -> TrialResult:
    metrics = {}
    if accuracy is not None:
        metrics = {"epoch": 1.0, "val_accuracy": accuracy, "val_loss": 1 - accuracy if loss is None else loss}
        metrics |= {"train_loss": 1 - accuracy, "train_loss_sum": 1 - accuracy}
    reason = "diverged" if state == TrialState.FAIL else None
    return TrialResult(state, metrics, [metrics] if metrics else [], reason, seconds=1.5, parameters=100)
