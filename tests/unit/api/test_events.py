"""The 17 event types, their payloads, and the schemas of both."""

from __future__ import annotations

import copy

import jsonschema_rs
import pytest
from pydantic import ValidationError

from knative_lambda.api import events, samples, schema
from knative_lambda.api.events import Category, EventType

PROMISED = {
    Category.FUNCTION: ["created", "updated", "deleted"],
    Category.BUILD: ["started", "completed", "failed", "timeout", "cancelled", "stopped"],
    Category.SERVICE: ["created", "updated", "deleted"],
    Category.PARSER: ["started", "completed", "failed"],
}


def test_there_are_the_17_promised_types() -> None:
    promised = {f"lambda.{category}.{word}" for category, words in PROMISED.items() for word in words}
    assert {kind.value for kind in EventType} == promised | {"lambda.status.updated", "lambda.health.check"}
    assert len(EventType) == 17


@pytest.mark.parametrize("kind", EventType)
def test_a_type_belongs_to_the_category_that_triggers_filter_on(kind: EventType) -> None:
    expected = Category.STATUS if kind is EventType.HEALTH_CHECK else Category(kind.value.split(".")[1])
    assert kind.category is expected


@pytest.mark.parametrize("kind", EventType)
def test_a_sample_of_every_type_is_valid_by_model_and_by_schema(kind: EventType) -> None:
    event = samples.event(kind)
    payload = events.payload_of(kind).model_validate(event["data"])
    assert payload.model_dump(mode="json", exclude_unset=True) == event["data"]
    assert jsonschema_rs.validator_for(schema.event_schemas()[kind]).is_valid(event)


@pytest.mark.parametrize("kind", EventType)
@pytest.mark.parametrize("attribute", ["specversion", "id", "source", "type", "time", "data"])
def test_an_event_without_a_required_attribute_is_refused(kind: EventType, attribute: str) -> None:
    event = samples.event(kind)
    del event[attribute]
    assert not jsonschema_rs.validator_for(schema.event_schemas()[kind]).is_valid(event)


@pytest.mark.parametrize("kind", EventType)
def test_every_required_field_of_a_payload_is_required_by_both(kind: EventType) -> None:
    model = events.payload_of(kind)
    validator = jsonschema_rs.validator_for(schema.event_schemas()[kind])
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    assert required
    for name in required:
        event = copy.deepcopy(samples.event(kind))
        del event["data"][name]
        assert not validator.is_valid(event)
        with pytest.raises(ValidationError):
            model.model_validate(event["data"])


def test_payloads_are_snake_case_on_the_wire() -> None:
    schemas = schema.event_schemas()
    names = set(schemas["lambda.build.completed"]["properties"]["data"]["properties"])
    assert {"function_name", "build_id", "job_name", "image_uri", "duration_seconds"} <= names


def test_one_type_is_not_another() -> None:
    completed = samples.event(EventType.BUILD_COMPLETED)
    assert not jsonschema_rs.validator_for(schema.event_schemas()[EventType.BUILD_FAILED]).is_valid(completed)
