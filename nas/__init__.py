"""Neural architecture search for activation functions."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("nas")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "unknown"
