"""What identifies a source."""

from __future__ import annotations

import pytest

from knative_lambda.api.conditions import Reason
from knative_lambda.api.function import GitSource, ImageSource, InlineSource, MinioSource, Source, SourceType
from knative_lambda.kit import digest
from knative_lambda.sources import identity
from knative_lambda.sources.base import SourceError

COMMIT = "a" * 40
URL = "https://git.example.com/repo.git"


def git(**changes: str) -> Source:
    return Source(type=SourceType.GIT, git=GitSource(url=URL, **changes))


def inline(code: str = "x", dependencies: str = "") -> Source:
    return Source(type=SourceType.INLINE, inline=InlineSource(code=code, dependencies=dependencies))


def test_a_pinned_commit_is_known_without_asking() -> None:
    found = identity.known(git(commit=COMMIT, path="functions/a"))
    assert found is not None
    assert (found.revision, found.digest) == (COMMIT, digest.digest("git", URL, COMMIT, "functions/a"))


def test_a_ref_that_is_a_commit_is_a_pin() -> None:
    assert identity.known(git(ref=COMMIT)) == identity.known(git(commit=COMMIT))


@pytest.mark.parametrize("ref", [None, "main", "v1", "abcdef1", "A" * 40])
def test_other_refs_must_be_asked_for(ref: str | None) -> None:
    assert identity.known(git(**({"ref": ref} if ref else {}))) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (git(commit=COMMIT), git(commit="b" * 40)),
        (git(commit=COMMIT, path="a"), git(commit=COMMIT, path="b")),
        (inline("ab", "c"), inline("a", "bc")),
        (inline("a"), inline("a", "b")),
    ],
)
def test_other_content_has_another_digest(one: Source, other: Source) -> None:
    first, second = identity.known(one), identity.known(other)
    assert first is not None
    assert second is not None
    assert first.digest != second.digest


def test_an_image_is_its_name() -> None:
    found = identity.known(Source(type=SourceType.IMAGE, image=ImageSource(uri="registry.example.com/a:1")))
    assert found is not None
    assert (found.revision, len(found.digest)) == ("registry.example.com/a:1", 64)


def test_a_kind_that_cannot_be_fetched_is_told_with_its_name() -> None:
    with pytest.raises(SourceError, match="minio") as caught:
        identity.known(Source(type=SourceType.MINIO, minio=MinioSource(bucket="abc", key="a.zip")))
    assert (caught.value.reason, caught.value.retry) == (Reason.SOURCE_UNSUPPORTED, False)
