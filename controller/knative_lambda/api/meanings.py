"""What each member of an enum means: the docstring below it, as pydantic reads those of fields.

Needs the source files beside the modules; called by reference when the pages are made, and by tests.
"""

from __future__ import annotations

import ast
import inspect
import itertools
from enum import StrEnum


def of(enum: type[StrEnum]) -> dict[str, str]:
    """Value -> meaning in the order of the members; raises ValueError for a member without docstring."""
    (class_definition,) = ast.parse(inspect.getsource(enum)).body
    assert isinstance(class_definition, ast.ClassDef)
    said = _docstrings(class_definition.body)
    if silent := [member.name for member in enum if member.name not in said]:
        raise ValueError(f"{enum.__name__} does not say what these mean: {', '.join(silent)}")
    return {member.value: said[member.name] for member in enum}


def _docstrings(body: list[ast.stmt]) -> dict[str, str]:
    """Name of each assignment that a string follows -> that string."""
    found: dict[str, str] = {}
    for statement, following in itertools.pairwise(body):
        match statement, following:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found
