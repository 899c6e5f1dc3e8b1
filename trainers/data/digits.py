"""scikit-learn's digits: 1,797 real 8x8 grey images of handwritten digits, embedded in the library.

Of these 360 (a fifth, stratified, always the same) are a test set; the rest is split into training and validation.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from trainers.data import Fraction, Images, datasets, hold_out


@datasets.register("digits")
def digits(*, val_fraction: Fraction = 0.3) -> Images:
    """8x8 grey digits, 10 classes, no augmentation."""
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images * (255 / 16)).round().to(torch.uint8).view(-1, 1, 8, 8)
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    y = torch.tensor(labels)
    return hold_out(pixels[train], y[train], val_fraction, test=lambda: (pixels[test], y[test]))
