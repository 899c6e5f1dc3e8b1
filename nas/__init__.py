"""Neural architecture search for activation functions.

``nas.Activation(formula)`` and ``nas.load(name, file, run or formula)`` make activations for one's own models, into
which ``nas.replace_activations`` puts them; ``nas.Study(path)`` reads a study. ``nas.modules`` has what else a model
needs.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.study import Study as Study
    from nas.activation import Activation as Activation
    from nas.loading import load as load
    from nas.modules.replace import replace_activations as replace_activations
    from nas.onnx_export import to_onnx as to_onnx

try:
    __version__ = version("nas")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "unknown"

_WHERE = {
    "Activation": "nas.activation",
    "Study": "analysis.study",
    "load": "nas.loading",
    "replace_activations": "nas.modules.replace",
    "to_onnx": "nas.onnx_export",
}
"""Imported on demand: ``import nas`` and ``import nas.modules`` stay light."""


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'nas' has no attribute {name!r}")
