"""How many trainings fit into a GPU's memory."""

from __future__ import annotations

import dataclasses

import torch

from trainers.run import run_trial
from trainers.trial import Trial

_STEPS = 5
_USABLE = 0.9  # of the memory: candidates differ in what they keep for the backward pass


def trials_that_fit(trial: Trial) -> int:
    """Train for a few steps on the current GPU and look at what is in use then, CUDA's own context included.

    Raises:
        ValueError: not even one fits, or it cannot be trained.
    """
    result = run_trial(dataclasses.replace(trial, max_steps=_STEPS, device="cuda", screen=False), lambda _: False)
    if result.reason is not None:
        raise ValueError(f"a training of ReLU failed on the GPU: {result.reason}")
    free, total = torch.cuda.mem_get_info()
    return max(1, int(_USABLE * total / (total - free)))
