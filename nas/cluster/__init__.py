"""Searches on Ray: on the cores and GPUs of this machine, or on a cluster. Ray is imported in this package alone.

``session`` starts or joins a Ray, ``tune`` runs a search's trials on it, ``bridge`` translates between the two and
decides what becomes of a trial whose worker is lost, ``watch`` looks after a worker from inside.
"""
