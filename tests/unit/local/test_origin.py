"""What `kn-lambda dev` is pointed at, and when it looks again."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from knative_lambda.local import origin
from knative_lambda.local.origin import Origin, OriginError


def repository(folder: Path, *flags: str) -> Path:
    subprocess.run(["git", "init", "--quiet", *flags, str(folder)], check=True)
    return folder


def test_folder_is_taken_as_it_is_saved(tmp_path: Path) -> None:
    found = origin.of(str(tmp_path), state=tmp_path / "state", watch=None)
    assert found.worktree is not None
    assert (found.git_dir, found.watched) == (tmp_path / "state" / "repository.git", tmp_path)


def test_commits_are_taken_from_the_repository_around_a_folder(tmp_path: Path) -> None:
    repository(tmp_path / "shop")
    (tmp_path / "shop" / "deploy" / "functions").mkdir(parents=True)
    found = origin.of(str(tmp_path / "shop" / "deploy" / "functions"), state=tmp_path / "state", watch=False)
    assert (found.git_dir, found.path, found.worktree) == (tmp_path / "shop" / ".git", "deploy/functions", None)


def test_bare_repository_and_url_are_served_as_they_are(tmp_path: Path) -> None:
    bare = repository(tmp_path / "Shop Functions.git", "--bare")
    found = origin.of(str(bare), state=tmp_path / "state", watch=None)
    assert (found.name, found.git_dir, found.watched) == ("shop-functions", bare, bare)
    far = origin.of("https://git.example.com/me/functions.git", state=tmp_path / "state", watch=None)
    assert (far.name, far.url, far.git_dir, far.watched) == (
        "functions",
        "https://git.example.com/me/functions.git",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("place", "watch", "told"),
    [("nowhere", None, "no such directory"), ("plain", False, "no git repository"), ("bare", True, "bare repository")],
)
def test_what_holds_no_functions_is_refused_with_advice(
    tmp_path: Path, place: str, watch: bool | None, told: str
) -> None:
    (tmp_path / "plain").mkdir()
    repository(tmp_path / "bare", "--bare")
    with pytest.raises(OriginError, match=told):
        origin.of(str(tmp_path / place), state=tmp_path / "state", watch=watch)


async def heard(found: Origin, change: Path, text: str) -> bool:
    """Whether writing a file counts as a change."""
    async with origin.changes(found) as changed:
        change.write_text(text)
        try:
            await asyncio.wait_for(origin.settled(changed), 1.0)
        except TimeoutError:
            return False
        return True


async def test_save_is_heard_and_what_git_does_for_itself_is_not(tmp_path: Path) -> None:
    folder = repository(tmp_path / "functions")
    found = origin.of(str(folder), state=tmp_path / "state", watch=True)
    assert await heard(found, folder / "main.py", "1")
    assert not await heard(found, folder / ".git" / "index", "1")


async def test_commit_is_heard_where_commits_count(tmp_path: Path) -> None:
    folder = repository(tmp_path / "functions")
    found = origin.of(str(folder), state=tmp_path / "state", watch=False)
    assert not await heard(found, folder / "main.py", "1")
    assert await heard(found, folder / ".git" / "HEAD", "ref: refs/heads/other\n")


async def test_many_writes_of_one_save_are_one_change(tmp_path: Path) -> None:
    found = origin.of(str(tmp_path), state=tmp_path.parent / "state", watch=True)
    async with origin.changes(found) as changed:
        for number in range(20):
            (tmp_path / f"{number}.py").write_text("")
        await asyncio.wait_for(origin.settled(changed), 2.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(changed.wait(), 0.3)


async def test_our_own_state_is_not_heard_where_it_lies_in_the_folder(tmp_path: Path) -> None:
    found = origin.of(str(tmp_path), state=tmp_path / "state", watch=None)
    (tmp_path / "state").mkdir()
    assert not await heard(found, tmp_path / "state" / "events.db", "of ours")
    assert await heard(found, tmp_path / "stated.py", "of theirs")


def test_url_of_a_folder_is_that_folder(tmp_path: Path) -> None:
    by_url, by_path = (
        origin.of(place, state=tmp_path / "state", watch=None) for place in (tmp_path.as_uri(), str(tmp_path))
    )
    assert by_url.watched == by_path.watched == tmp_path
