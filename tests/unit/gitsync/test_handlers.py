"""Which changes ask for a look."""

from __future__ import annotations

from typing import Any

import pytest

from knative_lambda.api import meta
from knative_lambda.api.meta import Key
from knative_lambda.gitsync import handlers
from knative_lambda.gitsync.observed import RepositorySeen, by_repository, project_repository
from knative_lambda.gitsync.requests import SyncRequests
from knative_lambda.resources.observed import FunctionSeen, project_function

REPOSITORY = Key("team", "functions")


def function(owner: str | None = REPOSITORY.name, **metadata: Any) -> FunctionSeen:
    labels = {meta.LABEL_REPOSITORY: owner, meta.LABEL_REPOSITORY_NAMESPACE: "team"} if owner else {}
    about = {"namespace": "team", "name": "f", "uid": "u", "generation": 1, "labels": labels, **metadata}
    return project_function({"metadata": about})


def repository(**metadata: Any) -> RepositorySeen:
    about = {"namespace": "team", "name": "functions", "uid": "u", "generation": 1, **metadata}
    return project_repository({"metadata": about})


@pytest.mark.parametrize(
    ("old", "new", "asked"),
    [
        (None, function(), (REPOSITORY,)),
        (function(), None, (REPOSITORY,)),
        (function(), function(generation=2), (REPOSITORY,)),
        (function(), function(deletionTimestamp="2026-01-01T00:00:00Z"), (REPOSITORY,)),
        (function(), function(uid="other"), (REPOSITORY,)),
        (function(), function(owner=None), (REPOSITORY,)),
        (function(), function(owner="other"), (REPOSITORY, Key("team", "other"))),
        (function(), function(resourceVersion="9"), ()),
        (function(owner=None), function(owner=None, generation=2), ()),
    ],
)
def test_a_function_wakes_its_repository(
    old: FunctionSeen | None, new: FunctionSeen | None, asked: tuple[Key, ...]
) -> None:
    assert tuple(handlers.function_changed(old, new)) == asked


@pytest.mark.parametrize(
    ("old", "new", "wakes"),
    [
        (None, repository(), True),
        (repository(), None, True),
        (repository(), repository(generation=2), True),
        (repository(), repository(annotations={meta.ANNOTATION_RECONCILE: "now"}), True),
        (repository(), repository(annotations={meta.ANNOTATION_ALLOW_PRUNE: "x"}), True),
        (repository(), repository(deletionTimestamp="2026-01-01T00:00:00Z"), True),
        (repository(), repository(resourceVersion="7"), False),
        (repository(), repository(annotations={"unrelated": "x"}), False),
    ],
)
def test_a_repository_wakes_itself_for_a_person_only(
    old: RepositorySeen | None, new: RepositorySeen | None, wakes: bool
) -> None:
    assert tuple(handlers.repository_changed(old, new)) == ((REPOSITORY,) if wakes else ())


def test_the_index_finds_functions_of_a_repository() -> None:
    assert tuple(by_repository(function())) == (REPOSITORY,)
    assert tuple(by_repository(function(owner=None))) == ()


def test_many_marks_are_one_look() -> None:
    woken: list[Key] = []
    requests = SyncRequests(woken.append)
    requests.mark(REPOSITORY)
    requests.mark(REPOSITORY)
    assert woken == [REPOSITORY, REPOSITORY]
    assert requests.is_marked(REPOSITORY)
    assert requests.take(REPOSITORY)
    assert not requests.take(REPOSITORY)
