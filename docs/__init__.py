"""The reference pages, generated from the docstrings: ``python -m docs``."""
