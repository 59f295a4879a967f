"""Knative Lambda: a git push becomes a function that runs, scales to zero and gets its events."""

__version__ = "0.1.0"
