"""Regression on few examples: what the surrogate strategy predicts results with."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

Floats = NDArray[np.float64]
Model = Literal["forest", "knn", "gp"]


def normal_scores(values: list[float | None]) -> Floats:
    """Quantiles of N(0,1) for the ranks of the values; failures, None, share the lowest."""
    lowest = min((v for v in values if v is not None), default=0.0) - 1.0
    ranks = rankdata([lowest if v is None else v for v in values])
    return np.asarray(norm.ppf((ranks - 0.5) / len(ranks)))


def predict(model: Model, x: Floats, y: Floats, new: Floats, seed: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the prediction for every row of ``new``.

    The forest's is over trees; that of k-NN is of the neighbours' values and grows with their distance.
    """
    if model == "forest":
        from sklearn.ensemble import ExtraTreesRegressor

        forest = ExtraTreesRegressor(n_estimators=60, min_samples_leaf=2, max_features=0.2, random_state=seed)
        trees = np.stack([tree.predict(new) for tree in forest.fit(x, y).estimators_])
        return trees.mean(0), trees.std(0)
    scale = x.std(0) + 1e-9
    x, new = (x - x.mean(0)) / scale, (new - x.mean(0)) / scale
    return _knn(x, y, new) if model == "knn" else _gp(x, y, new, seed)


def _knn(x: Floats, y: Floats, new: Floats, k: int = 5) -> tuple[Floats, Floats]:
    from sklearn.neighbors import NearestNeighbors

    distance, index = NearestNeighbors(n_neighbors=min(k, len(x))).fit(x).kneighbors(new)
    weight = 1 / (distance + 1e-6)
    weight /= weight.sum(1, keepdims=True)
    mean = (weight * y[index]).sum(1)
    variance = (weight * (y[index] - mean[:, None]) ** 2).sum(1)
    far = distance.mean(1) / (np.sqrt(x.shape[1]) + 1e-9)  # about 1 for two strangers
    return mean, np.sqrt(variance + y.var() * far**2)


def _gp(x: Floats, y: Floats, new: Floats, seed: int) -> tuple[Floats, Floats]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel: Any = ConstantKernel() * Matern(length_scale=np.sqrt(x.shape[1]), nu=2.5) + WhiteKernel(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        gp = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed).fit(x, y)
        mean, std = gp.predict(new, return_std=True)
    return mean, std
