"""The command line: `kn-lambda`, also `kn lambda`, `kubectl-lambda` and `kubectl lambda`. Parses and delegates."""

from __future__ import annotations

import sys
from pathlib import Path

from knative_lambda.cli import app

__all__ = ["main"]


def main() -> None:
    """Entry point of both console scripts and of `python -m knative_lambda`; ends the process."""
    name = Path(sys.argv[0]).name
    program = name.removesuffix(".exe") if not name.endswith(".py") else app.PROGRAM
    sys.exit(app.run(sys.argv[1:], program=program))
