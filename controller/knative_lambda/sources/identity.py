"""What identifies a source's content: pure, no question goes out. Called by resolver, memory, git and context."""

from __future__ import annotations

import re

from knative_lambda.api.conditions import Reason
from knative_lambda.api.function import GitSource, ImageSource, InlineSource, Source
from knative_lambda.kit import digest
from knative_lambda.sources.base import Resolution, SourceError

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def known(source: Source) -> Resolution | None:
    """The resolution of a source that says itself what it is; None when a remote must be asked.

    Raises SourceError(SOURCE_UNSUPPORTED) for the kinds that this release cannot fetch.
    """
    if source.inline is not None:
        return of_inline(source.inline)
    if source.image is not None:
        return of_image(source.image)
    if source.git is None:
        words = f"sources of type {source.type.value} cannot be built by this release; use git, inline or image"
        raise SourceError(Reason.SOURCE_UNSUPPORTED, words)
    commit = pinned_commit(source.git)
    return of_git(source.git, commit) if commit else None


def of_inline(source: InlineSource) -> Resolution:
    """Digest of the text: the same text is the same code wherever it stands."""
    found = digest.digest("inline", source.code, source.dependencies)
    return Resolution(digest=found, revision=f"inline-{found[:12]}")


def of_image(source: ImageSource) -> Resolution:
    """Digest of the name as it is written; the node resolves a tag."""
    return Resolution(digest=digest.digest("image", source.uri), revision=source.uri)


def of_git(source: GitSource, commit: str) -> Resolution:
    """Digest of where, which commit, and which directory of it."""
    return Resolution(digest=digest.digest("git", source.url, commit, source.path), revision=commit)


def pinned_commit(source: GitSource) -> str:
    """The commit that the source names, be it as its ref; empty when it names a branch, a tag or nothing."""
    if source.commit is not None:
        return source.commit
    return source.ref if source.ref is not None and _COMMIT.fullmatch(source.ref) else ""
