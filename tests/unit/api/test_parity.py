"""The JSON Schema that editors and gitsync use and the types that the controller uses agree about documents.

`jsonschema` is the oracle for `jsonschema_rs`, which is fast and the one in use.
"""

from __future__ import annotations

from typing import Any

import jsonschema
import jsonschema_rs
import pytest
from pydantic import ValidationError

from knative_lambda.api import function, repository, schema
from tests.unit.api import documents
from tests.unit.api.cases import BAD, GOOD, ONLY_TYPES, REPOSITORIES, REPOSITORY_RULES
from tests.unit.api.documents import Document

FUNCTION_SCHEMA = schema.function_schema()
REPOSITORY_SCHEMA = schema.repository_schema()


def _accepts(root: Document, document: Document) -> bool:
    """What both validators say, which must be the same."""
    ours = jsonschema_rs.validator_for(root).is_valid(document)
    oracle = jsonschema.Draft202012Validator(root).is_valid(document)
    assert ours == oracle
    return ours


@pytest.mark.parametrize("case", GOOD)
def test_good_functions_are_good_everywhere(case: str) -> None:
    document = documents.at(documents.function(), *GOOD[case])
    assert _accepts(FUNCTION_SCHEMA, document)
    assert function.parse(document).metadata.name == document["metadata"]["name"]


@pytest.mark.parametrize("case", BAD)
def test_bad_functions_are_bad_everywhere(case: str) -> None:
    document = documents.at(documents.function(), *BAD[case])
    assert not _accepts(FUNCTION_SCHEMA, document)
    with pytest.raises(ValidationError):
        function.parse(document)


@pytest.mark.parametrize("case", ONLY_TYPES)
def test_rules_across_fields_are_told_by_the_types(case: str) -> None:
    path, value, message = ONLY_TYPES[case]
    document = documents.at(documents.function(), path, value)
    assert _accepts(FUNCTION_SCHEMA, document)
    with pytest.raises(ValidationError) as refused:
        function.parse(document)
    assert message in str(refused.value)


def test_a_function_file_needs_neither_source_nor_name_nor_envelope() -> None:
    assert _accepts(FUNCTION_SCHEMA, {"spec": {"runtime": {"language": "python"}}})
    assert not _accepts(FUNCTION_SCHEMA, {})


@pytest.mark.parametrize(("path", "value"), [("kind", "Function"), ("apiVersion", "lambda.knative.io/v1")])
def test_a_function_file_of_another_kind_is_refused(path: str, value: str) -> None:
    assert not _accepts(FUNCTION_SCHEMA, documents.at(documents.function(), path, value))


@pytest.mark.parametrize("case", REPOSITORIES)
def test_repositories_are_judged_alike(case: str) -> None:
    path, value, good = REPOSITORIES[case]
    document = documents.at(documents.repository(), path, value)
    assert _accepts(REPOSITORY_SCHEMA, document) is good
    if good:
        assert repository.parse(document).metadata.name == "functions"
    else:
        with pytest.raises(ValidationError):
            repository.parse(document)


@pytest.mark.parametrize(("path", "value", "message"), REPOSITORY_RULES)
def test_rules_of_repositories_are_told_by_the_types(path: str, value: Any, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        repository.parse(documents.at(documents.repository(), path, value))
    assert message in str(refused.value)


@pytest.mark.parametrize("root", [FUNCTION_SCHEMA, REPOSITORY_SCHEMA, *schema.event_schemas().values()])
def test_schemas_are_schemas(root: Document) -> None:
    jsonschema.Draft202012Validator.check_schema(root)
    assert root["$schema"] == schema.DIALECT
