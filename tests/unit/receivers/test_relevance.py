"""A push is passed over only where it certainly changes no function."""

from __future__ import annotations

from typing import Any

import pytest

from knative_lambda.gitsync.observed import project_repository
from tests.unit.receivers.senders import payload_of
from tests.unit.receivers.stage import Stage

HEAD = payload_of("github")["before"]
SPEC = {"ref": {"branch": "main"}, "path": "functions"}
SETTLED = {"observedGeneration": 1, "observedRevision": f"main@{HEAD}", "appliedRevision": f"main@{HEAD}"}


async def answered(
    *files: str, spec: dict[str, Any] | None = None, status: Any = None, stage: Stage | None = None, **push: Any
) -> str:
    stage = stage or Stage(spec=spec or SPEC, status=status or SETTLED)
    await stage.secret()
    payload = payload_of("github")
    payload["commits"][0] |= {"modified": list(files)}
    answer = await stage.deliver("github", payload | push)
    status_text: str = answer.json()["status"]
    return status_text


async def test_a_push_outside_of_the_path_is_ignored() -> None:
    assert await answered("README.md", "docs/functions/a.md", "functions-old/main.py") == "ignored"


@pytest.mark.parametrize("file", ["functions/hello/main.py", "functions", "functions/x"])
async def test_a_push_below_the_path_is_looked_at(file: str) -> None:
    assert await answered("README.md", file) == "accepted"


async def test_a_file_that_takes_the_place_of_a_parent_directory_is_looked_at() -> None:
    assert await answered("apps", spec={**SPEC, "path": "apps/functions"}) == "accepted"


async def test_watched_paths_of_functions_count() -> None:
    stage = Stage(spec=SPEC, status=SETTLED)
    stage.function("plain")
    stage.function("watcher", watchPaths=["shared/lib"])
    assert await answered("shared/lib/money.py", stage=stage) == "accepted"
    assert await answered("shared/other.py", stage=stage) == "ignored"


@pytest.mark.parametrize(
    "status",
    [
        {},
        {**SETTLED, "appliedRevision": "main@" + "1" * 40},
        {**SETTLED, "observedRevision": "main@" + "1" * 40, "appliedRevision": "main@" + "1" * 40},
        {**SETTLED, "findings": [{"file": "functions/a/function.yaml", "message": "no shared/lib"}]},
        {**SETTLED, "observedGeneration": 0},
    ],
    ids=["never synced", "half applied", "an earlier push was missed", "findings", "spec changed"],
)
async def test_where_the_last_sync_did_not_end_well_at_its_start_every_push_is_looked_at(status: Any) -> None:
    assert await answered("README.md", status=status or {"observedGeneration": 1}) == "accepted"


@pytest.mark.parametrize(
    "push",
    [
        {"forced": True},
        {"created": True},
        {"forced": None},
        {"commits": []},
        {"commits": None},
        {"commits": [{"modified": ["README.md"]}] * 2048},
        {"commits": [{"modified": ["README.md"]}, {"added": [], "modified": [], "removed": []}]},
        {"commits": [{"modified": [f"docs/{number}" for number in range(1000)]}]},
    ],
    ids=["forced", "created", "not told", "no commits", "null", "too many commits", "a silent merge", "too many files"],
)
async def test_a_push_that_does_not_list_every_file_is_looked_at(push: dict[str, Any]) -> None:
    assert await answered("README.md", **push) == "accepted"


async def test_without_a_path_every_push_is_looked_at() -> None:
    assert await answered("README.md", spec={"ref": {"branch": "main"}}) == "accepted"


async def test_forges_that_do_not_say_forced_are_never_filtered_by_path() -> None:
    stage = Stage(spec=SPEC, status=SETTLED)
    await stage.secret()
    payload = payload_of("gitea")
    payload["commits"][0]["modified"] = ["README.md"]
    assert (await stage.deliver("gitea", payload)).json()["status"] == "accepted"


async def test_a_pinned_commit_may_come_with_any_branch() -> None:
    assert await answered("functions/a", spec={"ref": {"commit": "1" * 40}}, ref="refs/heads/any") == "accepted"


def test_a_repository_that_another_release_stored_is_seen_without_a_webhook() -> None:
    for spec in ({}, {"webhook": None}, {"webhook": {"secretRef": "name"}}, {"webhook": "x"}, None):
        obj = {"metadata": {"namespace": "team", "name": "f", "uid": "u"}, "spec": spec}
        assert project_repository(obj).webhook is None
