"""Breaks searches in every way we know, with real processes, and looks at what is left.

    python -m tests.faults [--rounds 1] [--only NAME ...] [--json]

Each round starts a small search, lets a fault strike in mid-run, goes on with ``nas resume`` and compares: a trial is
lost if it had finished and is gone or changed, and doubled if it had finished and was started again, or if a function
was searched twice. ``nas check`` must find the study whole in the end. Needs Linux; two faults mount a small file
system and need root, and are left out without.
"""
