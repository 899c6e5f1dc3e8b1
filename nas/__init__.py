"""Neural architecture search for activation functions.

``nas.Study(path)`` reads a study; see analysis.study.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.study import Study as Study

try:
    __version__ = version("nas")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    if name == "Study":  # on demand: it takes pandas, and importing nas.modules should not
        from analysis.study import Study

        return Study
    raise AttributeError(f"module 'nas' has no attribute {name!r}")
