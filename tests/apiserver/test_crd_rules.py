"""A real API server takes our CRDs, fills in their defaults, and refuses what the types refuse."""

from __future__ import annotations

from typing import Any

import pytest

from knative_lambda.api import crd, function
from tests.testbed.apiclient import ApiError
from tests.testbed.kubernetes import KubernetesBed
from tests.unit.api import documents
from tests.unit.api.cases import BAD, GOOD, ONLY_TYPES, REPOSITORIES, REPOSITORY_RULES

PLURALS = {"LambdaFunction": "lambdafunctions", "FunctionRepository": "functionrepositories"}
DEFAULTED = {"null": "null stands for nothing, and nothing for the default"}
"""Bad in a file, and mended by the API server before it looks."""


def _stored(bed: KubernetesBed, document: documents.Document) -> dict[str, Any]:
    """What the server would store; raises ApiError for what it refuses. Nothing is written."""
    document["metadata"]["namespace"] = "default"
    path = f"/apis/lambda.knative.io/v1alpha1/namespaces/default/{PLURALS[document['kind']]}"
    query: dict[str, str | int] = {"dryRun": "All", "fieldValidation": "Strict"}
    return bed.api.request("POST", path, body=document, query=query)


def test_defaults_of_absent_parents_are_those_of_the_types(kubernetes_bed: KubernetesBed) -> None:
    document = documents.function()
    spec = function.parse(document).spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    stored = _stored(kubernetes_bed, document)["spec"]
    assert stored == crd.pruned(spec)


@pytest.mark.parametrize("case", GOOD)
def test_good_functions_are_stored(kubernetes_bed: KubernetesBed, case: str) -> None:
    document = documents.at(documents.function(), *GOOD[case])
    assert function.parse(_stored(kubernetes_bed, document)).metadata.name == document["metadata"]["name"]


@pytest.mark.parametrize("case", [case for case in BAD if case not in DEFAULTED])
def test_bad_functions_are_refused(kubernetes_bed: KubernetesBed, case: str) -> None:
    with pytest.raises(ApiError) as refused:
        _stored(kubernetes_bed, documents.at(documents.function(), *BAD[case]))
    assert refused.value.status in (400, 422)


@pytest.mark.parametrize("case", DEFAULTED)
def test_what_the_server_mends_is_stored_with_defaults(kubernetes_bed: KubernetesBed, case: str) -> None:
    stored = _stored(kubernetes_bed, documents.at(documents.function(), *BAD[case]))
    assert stored["spec"]["build"]["timeout"] == "30m"


@pytest.mark.parametrize("case", ONLY_TYPES)
def test_rules_across_fields_are_told_by_cel(kubernetes_bed: KubernetesBed, case: str) -> None:
    path, value, _ = ONLY_TYPES[case]
    with pytest.raises(ApiError) as refused:
        _stored(kubernetes_bed, documents.at(documents.function(), path, value))
    assert refused.value.status == 422


@pytest.mark.parametrize("member", documents.SOURCES)
def test_every_kind_of_source_is_stored(kubernetes_bed: KubernetesBed, member: str) -> None:
    source = {"type": member, member: documents.SOURCES[member]}
    stored = _stored(kubernetes_bed, documents.function(source=source))
    assert stored["spec"]["source"]["type"] == member


@pytest.mark.parametrize("case", REPOSITORIES)
def test_repositories_are_judged_as_by_the_types(kubernetes_bed: KubernetesBed, case: str) -> None:
    path, value, good = REPOSITORIES[case]
    document = documents.at(documents.repository(), path, value)
    if good:
        assert _stored(kubernetes_bed, document)["spec"]["prune"] is True
    else:
        with pytest.raises(ApiError):
            _stored(kubernetes_bed, document)


@pytest.mark.parametrize(("path", "value", "message"), REPOSITORY_RULES)
def test_rules_of_repositories_are_told_by_cel(
    kubernetes_bed: KubernetesBed, path: str, value: Any, message: str
) -> None:
    with pytest.raises(ApiError, match=message):
        _stored(kubernetes_bed, documents.at(documents.repository(), path, value))
