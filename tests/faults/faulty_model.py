"""A user's model: a ResNet-8 that misbehaves once, in whichever process first finds that it may.

Copied among the models of a source tree of the round's own; see strikes.py.
"""

from __future__ import annotations

import ctypes
import os
import time

import torch
from torch import nn

from trainers.models import models

KEPT = []


def misbehave(fault: str) -> None:
    if fault == "native_hang":
        ctypes.PyDLL(None).sleep(10_000)  # PyDLL keeps the interpreter's lock
    while fault in ("hang", "leak"):
        if fault == "leak":
            KEPT.append(bytearray(b"x" * 20_000_000))
        time.sleep(0.02)
    if fault == "exception":
        raise ZeroDivisionError("the user's own")
    if fault == "exit":
        os._exit(3)


class Faulty(nn.Module):
    def __init__(self, inner: nn.Module, fault: str):
        super().__init__()
        self.inner, self.fault = inner, fault

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        factor = 1.0
        if self.training and first():
            misbehave(self.fault)
            factor = float(self.fault)  # nan or inf: the only ones that come back
        return self.inner(x) * factor


def first() -> bool:
    """Whether nobody asked before."""
    try:
        os.close(os.open(os.environ["NAS_TEST_FAULT"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@models.register("faulty")
def faulty(act, input_shape, num_outputs, *, fault: str, width: int = 4) -> nn.Module:
    return Faulty(models.get("resnet8")(act, input_shape, num_outputs, width=width), fault)
