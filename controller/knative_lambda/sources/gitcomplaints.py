"""git's error texts as reasons. Pure; called by gitcommand. Texts as git 2.30-2.50 writes them with LC_ALL=C."""

from __future__ import annotations

import re
from dataclasses import dataclass

from knative_lambda.api.conditions import Reason
from knative_lambda.kit import redact
from knative_lambda.sources.base import SourceError

_LIMIT = 300
_ELAPSED = re.compile(r" after \d+ (ms|milliseconds|seconds)( out of \d+ \w+)?")


@dataclass(frozen=True, slots=True)
class _Sign:
    pattern: re.Pattern[str]
    reason: Reason
    words: str
    retry: bool = False


def _sign(pattern: str, reason: Reason, words: str, *, retry: bool = False) -> _Sign:
    return _Sign(re.compile(pattern, re.IGNORECASE), reason, words, retry)


_SIGNS = (
    _sign(
        r"returned error: 30[1278]|unable to update url base from redirection|redirected",
        Reason.SOURCE_REFUSED,
        "the server redirects, which is not followed; write the final URL (often it ends with .git)",
    ),
    _sign(
        r"authentication failed|returned error: 40[137]|could not read (username|password)|terminal prompts disabled"
        r"|permission denied|invalid credentials|http basic: access denied|load key|invalid format",
        Reason.AUTHENTICATION_FAILED,
        "the server does not accept the credentials",
    ),
    _sign(
        r"host key verification failed|no .* host key is known",
        Reason.AUTHENTICATION_FAILED,
        "the server's host key is not in known_hosts of the Secret",
    ),
    _sign(
        r"couldn't find remote ref|remote ref does not exist|not our ref|unadvertised object|no such ref",
        Reason.REF_NOT_FOUND,
        "the remote does not have this ref",
    ),
    _sign(
        r"repository .*not found|returned error: 404|returned error: 410|does not appear to be a git repository"
        r"|not valid: is this a git repository|does not exist",
        Reason.SOURCE_NOT_FOUND,
        "there is no such repository, or the credentials may not see it",
    ),
    _sign(r"certificate|ssl|tls", Reason.UNREACHABLE, "the server's certificate cannot be verified", retry=True),
    _sign(r"fsck|hasdot|fullpathname|gitmodules", Reason.SOURCE_REFUSED, "the repository holds broken objects"),
)
_UNREACHABLE = "the remote cannot be reached"


def classify(text: str, *, what: str) -> SourceError:
    """SourceError with git's own last words; what is not known is taken to pass by itself."""
    quoted = _quoted(text)
    for sign in _SIGNS:
        if sign.pattern.search(text):
            return SourceError(sign.reason, f"{what}: {sign.words} ({quoted})", retry=sign.retry)
    return SourceError(Reason.UNREACHABLE, f"{what}: {_UNREACHABLE} ({quoted})", retry=True)


def _quoted(text: str) -> str:
    """The last telling line, without secrets; the lines of advice that git adds say nothing about the cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "ssh:"))] or lines
    if not telling:
        return "git said nothing"
    # What differs at every attempt would make every attempt a new status.
    return redact.clip(redact.text(_ELAPSED.sub("", telling[-1])), _LIMIT)
