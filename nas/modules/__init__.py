"""Importable components for users' own models. A leaf: it imports torch and nothing else of this project."""
