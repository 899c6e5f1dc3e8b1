"""Activation functions by table: any pointwise function at the cost of one look-up."""

from nas.modules.activations.norm import NormAct
from nas.modules.activations.table import TableActivation, refresh, tabulate

__all__ = ["NormAct", "TableActivation", "refresh", "tabulate"]
