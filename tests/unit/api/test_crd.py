"""The CRDs are what an API server accepts, and show what `kubectl get` should."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from knative_lambda.api import crd, generated
from tests.unit.api import structural

DEFINITIONS = {definition["spec"]["names"]["kind"]: definition for definition in crd.definitions()}


def _version(kind: str) -> dict[str, Any]:
    (version,) = DEFINITIONS[kind]["spec"]["versions"]
    return version


def _schema(kind: str) -> dict[str, Any]:
    return _version(kind)["schema"]["openAPIV3Schema"]


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_schema_is_structural(kind: str) -> None:
    assert list(structural.problems(_schema(kind))) == []


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_defaults_survive_their_own_schema(kind: str) -> None:
    assert list(structural.default_problems(_schema(kind))) == []


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ({"properties": {}}, ": no type"),
        ({"type": "object", "patternProperties": {}}, "unknown words ['patternProperties']"),
        ({"type": "object", "required": ["a"]}, "requires a"),
        ({"type": "array"}, "a list without items"),
        ({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}, "exclude each other"),
        ({"type": "object", "anyOf": [{"properties": {}}]}, "structure within anyOf"),
        (
            {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-map-keys": ["name"]},
            "list key name is neither required nor defaulted",
        ),
        ({"type": "object", "properties": {"spec": {"type": "string"}}}, ".spec: text without maxLength"),
    ],
)
def test_checker_of_structural_schemas_notices(broken: dict[str, Any], problem: str) -> None:
    assert any(problem in found for found in structural.problems(broken))


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_status_is_a_subresource_of_the_one_stored_version(kind: str) -> None:
    version = _version(kind)
    assert (version["name"], version["served"], version["storage"]) == ("v1alpha1", True, True)
    assert version["subresources"] == {"status": {}}


def test_names_are_those_of_the_group() -> None:
    assert [definition["metadata"]["name"] for definition in crd.definitions()] == [
        "functionrepositories.lambda.knative.io",
        "lambdafunctions.lambda.knative.io",
    ]
    assert DEFINITIONS["LambdaFunction"]["spec"]["names"]["shortNames"] == ["lfn"]
    assert DEFINITIONS["LambdaFunction"]["spec"]["names"]["categories"] == ["knative"]


def test_kubectl_get_shows_what_matters() -> None:
    columns = [column["name"] for column in _version("LambdaFunction")["additionalPrinterColumns"]]
    assert columns == ["Ready", "Phase", "Language", "URL", "Image", "Age"]


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_conditions_are_a_map_by_type_so_that_writers_do_not_lose_each_others(kind: str) -> None:
    conditions = _schema(kind)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_every_field_says_what_it_is(kind: str) -> None:
    schema = _schema(kind)
    silent = [path for part in ("spec", "status") for path in _silent(schema["properties"][part], part)]
    assert silent == []


def _silent(node: dict[str, Any], path: str) -> list[str]:
    found = [] if node.get("description") else [path]
    for name, child in node.get("properties", {}).items():
        found += _silent(child, f"{path}.{name}")
    for name, child in node.get("items", {}).get("properties", {}).items():
        found += _silent(child, f"{path}[].{name}")
    return found


def test_quantities_may_be_numbers_and_texts() -> None:
    requests = _schema("LambdaFunction")["properties"]["spec"]["properties"]["resources"]["properties"]["requests"]
    cpu = requests["properties"]["cpu"]
    assert cpu["x-kubernetes-int-or-string"] is True
    assert "pattern" in cpu
    assert "type" not in cpu


def test_attribute_names_are_checked_by_cel_for_structural_schemas_know_no_patterns_of_names() -> None:
    trigger = _schema("LambdaFunction")["properties"]["spec"]["properties"]["triggers"]["items"]
    attributes = trigger["properties"]["filter"]["properties"]["attributes"]
    assert attributes["additionalProperties"]["type"] == "string"
    (rule,) = attributes["x-kubernetes-validations"]
    assert rule["rule"].startswith("self.all(name, size(name) <= 20")


def test_files_are_yaml_without_anchors_and_read_back_as_the_definition() -> None:
    for definition in crd.definitions():
        text = generated.yaml_text(definition)
        assert "&id" not in text
        assert yaml.safe_load(text) == definition
