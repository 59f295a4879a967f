"""What a LambdaFunction says of itself."""

from __future__ import annotations

import copy

import pytest
from pydantic import ValidationError

from knative_lambda.api import function
from knative_lambda.api.function import DEFAULT_HANDLER, DEFAULT_VERSION, Language, Runtime, TriggerFilter
from knative_lambda.api.meta import Key
from tests.unit.api import documents


@pytest.mark.parametrize(
    ("language", "handler", "entrypoint"),
    [
        ("python", None, ("main", "handler")),
        ("nodejs", None, ("index", "handler")),
        ("go", None, ("main", "Handler")),
        ("python", "run", ("main", "run")),
        ("nodejs", "run", ("index", "run")),
        ("go", "Run", ("main", "Run")),
        ("python", "app.run", ("app", "run")),
        ("python", "package.module.run", ("package.module", "run")),
        ("nodejs", "src/app.run", ("src/app", "run")),
    ],
)
def test_a_function_is_entered_where_its_handler_says(
    language: Language, handler: str | None, entrypoint: tuple[str, str]
) -> None:
    assert Runtime(language=language, handler=handler).entrypoint() == entrypoint


@pytest.mark.parametrize("language", Language)
def test_every_language_has_a_default_handler_and_version(language: Language) -> None:
    runtime = Runtime(language=language)
    assert ".".join(runtime.entrypoint()) == DEFAULT_HANDLER[language]
    assert runtime.release() == DEFAULT_VERSION[language]


def test_a_version_that_is_asked_for_is_built() -> None:
    assert Runtime(language=Language.PYTHON, version="3.11").release() == "3.11"


def test_a_ready_image_needs_no_runtime() -> None:
    document = documents.function(source={"type": "image", "image": documents.SOURCES["image"]})
    del document["spec"]["runtime"]
    assert function.parse(document).spec.runtime is None


def test_code_needs_a_runtime() -> None:
    document = documents.function()
    del document["spec"]["runtime"]
    with pytest.raises(ValidationError, match=r"runtime is required unless source\.type is image"):
        function.parse(document)


@pytest.mark.parametrize("name", ["", "a" * 53, "1st", "-a", "a-", "a.b", "Hello", "a_b"])
def test_names_that_knative_would_refuse_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(ValidationError, match="must be a DNS-1035 label of at most 52 characters"):
        function.parse(documents.at(documents.function(), "metadata.name", name))


@pytest.mark.parametrize("name", ["a", "a" * 52, "hello-2"])
def test_names_that_knative_takes_are_taken(name: str) -> None:
    fn = function.parse(documents.at(documents.function(), "metadata.name", name))
    assert fn.key == Key("shop", name)


def test_filters_name_their_attributes_exactly_and_the_named_ones_win() -> None:
    wanted = TriggerFilter(type="a", source="b", attributes={"tenant": "acme", "type": "other"})
    assert wanted.exact() == {"type": "a", "source": "b", "tenant": "acme"}
    assert TriggerFilter().exact() == {}


def test_quantities_that_are_numbers_become_texts() -> None:
    fn = function.parse(documents.at(documents.function(), "spec.resources.limits", {"cpu": 1, "memory": 134217728}))
    assert (fn.spec.resources.limits.cpu, fn.spec.resources.limits.memory) == ("1", "134217728")


def test_a_fraction_that_is_a_number_is_refused_with_what_to_write_instead() -> None:
    with pytest.raises(ValidationError, match=r'write a fraction as text, "0\.5", or with a unit, such as 500m'):
        function.parse(documents.at(documents.function(), "spec.resources.limits.cpu", 0.5))


def test_fields_that_a_later_release_wrote_into_the_status_are_passed_over() -> None:
    document = documents.function() | {"status": {"phase": "Ready", "invented": {"later": True}}}
    assert function.parse(document).status.phase == "Ready"


def test_an_object_is_deleting_from_its_deletion_timestamp_on() -> None:
    document = documents.function()
    assert not function.parse(document).deleting
    assert function.parse(documents.at(document, "metadata.deletionTimestamp", "2026-01-01T00:00:00Z")).deleting


def test_parsing_leaves_the_object_as_it_was_and_what_it_makes_cannot_be_changed() -> None:
    document = documents.function()
    before = copy.deepcopy(document)
    fn = function.parse(document)
    assert document == before
    with pytest.raises(ValidationError, match="frozen"):
        fn.spec.scaling.max_replicas = 3  # type: ignore[misc]


def test_a_spec_reads_back_as_it_was_written() -> None:
    spec = function.parse(documents.function()).spec
    written = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert function.FunctionSpec.model_validate(written) == spec
    assert written["scaling"]["scaleToZeroGracePeriod"] == "30s"
