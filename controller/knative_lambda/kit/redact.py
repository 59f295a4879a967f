"""Takes secrets out of text before a person, a log or a status sees it."""

from __future__ import annotations

import re

MASK = "***"
_EXAMPLE = "user:password@"
"""What our own messages say where credentials belong; masked, they would teach the mask."""
_URL_CREDENTIALS = re.compile(rf"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)(?!{_EXAMPLE})[^\s/@]*@")
_HEADER = re.compile(r"(?i)\b(authorization|x-hub-signature(?:-256)?|x-gitlab-token|cookie)(\s*[:=]\s*)\S+(\s+\S+)?")
_PAIR = re.compile(
    r"(?i)\b((?:[a-z0-9_-]*)(?:password|passwd|secret|token|(?:api|access|secret|private)[_-]?key))"
    r"([\"']?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s&,;]+)"
)
_TOKEN = re.compile(
    r"\b(gh[pousr]_[A-Za-z0-9]{16,}|glpat-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_HINTS = (":/", "auth", "cookie", "passw", "secret", "token", "key", "x-hub", "gh", "glpat", "akia", "eyj")
"""What every secret that is known here has in it, in small letters: most messages have nothing of it."""


def url(text: str) -> str:
    """`https://user:pass@host/x` as `https://***@host/x`."""
    return _URL_CREDENTIALS.sub(rf"\g<scheme>{MASK}@", text)


def text(message: str) -> str:
    """Masks credentials in URLs, authorization headers, `password=` pairs, private keys and well-known token forms."""
    lowered = message.lower()
    if not any(hint in lowered for hint in _HINTS):
        return message
    masked = _TOKEN.sub(MASK, url(_PRIVATE_KEY.sub(MASK, message)))
    masked = _HEADER.sub(rf"\1\2{MASK}", masked)
    return _PAIR.sub(rf"\1\2{MASK}", masked)


def clip(message: str, limit: int) -> str:
    """Cuts from the front, for the end of a log says what went wrong."""
    return message if len(message) <= limit else "…" + message[-(limit - 1) :]
