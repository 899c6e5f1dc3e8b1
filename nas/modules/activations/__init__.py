"""Activation functions by table: any pointwise function at the cost of one look-up."""

from nas.modules.activations.table import TableActivation, refresh, tabulate

__all__ = ["TableActivation", "refresh", "tabulate"]
