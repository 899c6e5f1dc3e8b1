"""How one candidate is trained: trials, the training loop, models and data sets."""
