"""docs/api says everything, its samples are valid, and what is generated is up to date."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from knative_lambda.api import crd, function, generated, meanings, reference, repository, samples, schema
from knative_lambda.api.conditions import ConditionType, Reason
from knative_lambda.api.events import EventType
from knative_lambda.api.function import LambdaFunction
from knative_lambda.api.phases import Phase
from knative_lambda.api.repository import FunctionRepository

ROOT = Path(__file__).parents[3]
PAGES = reference.pages()


@pytest.mark.parametrize("enum", [Reason, ConditionType, Phase, EventType])
def test_every_member_says_what_it_means(enum: type[StrEnum]) -> None:
    said = meanings.of(enum)
    assert list(said) == [member.value for member in enum]
    assert [text for text in said.values() if len(text) < 10 or not text.endswith(".")] == []


def test_a_member_without_meaning_is_named() -> None:
    with pytest.raises(ValueError, match="Silent does not say what these mean: SECOND"):
        meanings.of(Silent)


class Silent(StrEnum):
    """One member speaks, one does not."""

    FIRST = "first"
    """Comes before."""
    SECOND = "second"


@pytest.mark.parametrize(
    ("page", "model"), [("lambdafunction", LambdaFunction), ("functionrepository", FunctionRepository)]
)
def test_a_page_names_every_field(page: str, model: type[LambdaFunction] | type[FunctionRepository]) -> None:
    root = crd.open_api_schema(model)["properties"]
    missing = [
        path for part in ("spec", "status") for path in _paths(root[part], part) if f"| `{path}` |" not in PAGES[page]
    ]
    assert missing == []


def _paths(node: crd.Schema, path: str) -> list[str]:
    found = []
    for name, child in node.get("properties", {}).items():
        found += [
            f"{path}.{name}",
            *_paths(child, f"{path}.{name}"),
            *_paths(child.get("items", {}), f"{path}.{name}[]"),
        ]
    return found


def test_every_condition_and_reason_is_on_a_page() -> None:
    both = PAGES["lambdafunction"] + PAGES["functionrepository"]
    missing = [member for enum in (ConditionType, Reason) for member in enum if f"| `{member}` |" not in both]
    assert missing == []


def test_every_event_type_is_on_the_page_of_events() -> None:
    assert [kind for kind in EventType if f"| `{kind}` |" not in PAGES["events"]] == []


@pytest.mark.parametrize("page", PAGES)
def test_tables_have_as_many_cells_as_their_head(page: str) -> None:
    width = 0
    for line in PAGES[page].splitlines():
        cells = line.replace("\\|", "").count("|") if line.startswith("|") else 0
        assert not (width and cells) or cells == width, line
        width = cells


def test_samples_are_valid() -> None:
    fn, repo = yaml.safe_load(samples.FUNCTION), yaml.safe_load(samples.REPOSITORY)
    assert function.parse(fn).metadata.name == "resize"
    assert repository.parse(repo).metadata.name == "functions"
    assert jsonschema_rs.validator_for(schema.function_schema()).is_valid(fn)
    assert jsonschema_rs.validator_for(schema.function_schema()).is_valid(yaml.safe_load(samples.FUNCTION_YAML))
    assert jsonschema_rs.validator_for(schema.repository_schema()).is_valid(repo)


def test_pages_show_the_samples() -> None:
    assert samples.FUNCTION in PAGES["lambdafunction"]
    assert samples.FUNCTION_YAML in PAGES["lambdafunction"]
    assert samples.REPOSITORY in PAGES["functionrepository"]
    assert samples.event_text(EventType.BUILD_COMPLETED) in PAGES["events"]


def test_generated_files_are_those_of_the_types() -> None:
    outdated = [name for name, text in generated.files().items() if _text(name) != text]
    assert outdated == [], "run make generate"


def test_generated_files_say_so_and_are_in_the_generated_folders() -> None:
    for name, text in generated.files().items():
        assert name.startswith(tuple(f"{folder}/" for folder in generated.FOLDERS))
        assert generated.is_ours(text)


def test_a_file_of_a_person_is_not_taken_for_a_generated_one() -> None:
    assert not generated.is_ours("# How to call a function\n")


def _text(name: str) -> str:
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""
