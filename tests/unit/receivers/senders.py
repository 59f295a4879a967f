"""Deliveries as forges make them, signed here without the product's code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parents[3] / "hooks" / "samples"
FORGES = ("github", "gitlab", "bitbucket-cloud", "bitbucket-server", "gitea", "generic")
TOKEN = "correct horse battery staple"
Payload = dict[str, Any]


def body_of(forge: str) -> bytes:
    return (SAMPLES / f"{forge}.json").read_bytes()


def payload_of(forge: str) -> Payload:
    loaded: Payload = json.loads(body_of(forge))
    return loaded


def headers_of(forge: str) -> dict[str, str]:
    """The sample's headers without those that depend on body, token and time."""
    lines = (SAMPLES / f"{forge}.headers").read_text().splitlines()
    pairs = (line.split(": ", 1) for line in lines)
    return {name: value for name, value in pairs if "<" not in value}


def hexed(token: str, body: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(token.encode(), body, algorithm).hexdigest()


SIGNERS: dict[str, Callable[[str, bytes], dict[str, str]]] = {
    "github": lambda token, body: {"X-Hub-Signature-256": f"sha256={hexed(token, body)}"},
    "gitlab": lambda token, body: {"X-Gitlab-Token": token},
    "bitbucket-cloud": lambda token, body: {"X-Hub-Signature": f"sha256={hexed(token, body)}"},
    "bitbucket-server": lambda token, body: {"X-Hub-Signature": f"sha256={hexed(token, body)}"},
    "gitea": lambda token, body: {"X-Gitea-Signature": hexed(token, body)},
    "generic": lambda token, body: {"X-Signature": f"sha256={hexed(token, body)}"},
}


def signed(forge: str, body: bytes, *, token: str = TOKEN, **more: str) -> dict[str, str]:
    """All headers of a delivery; `more` replaces some, with underscores for dashes."""
    replaced = {name.replace("_", "-"): value for name, value in more.items()}
    made = {**headers_of(forge), **SIGNERS[forge](token, body)}
    kept = {name: value for name, value in made.items() if name.lower() not in replaced}
    return {**kept, **replaced}


def standard_webhook(body: bytes, *, token: str, at: datetime, identity: str = "msg_1") -> dict[str, str]:
    """GitLab's new signature: v1,<base64 HMAC-SHA256 of id.timestamp.body>, keyed by what whsec_ encodes."""
    stamp = str(int(at.timestamp()))
    key = base64.b64decode(token.removeprefix("whsec_")) if token.startswith("whsec_") else token.encode()
    mac = hmac.new(key, f"{identity}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "X-Gitlab-Event": "Push Hook",
        "webhook-id": identity,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }


def moved(forge: str, ref: str, *, deleted: bool = False) -> Payload:
    """The sample, of another ref; a deleted one as that forge says it."""
    payload, nothing = payload_of(forge), "0" * 40
    kind = "tag" if ref.startswith("refs/tags/") else "branch"
    name = ref.split("/", 2)[2]
    if forge == "bitbucket-cloud":
        change = payload["push"]["changes"][0]
        for side in ("old", "new"):
            change[side] |= {"type": kind, "name": name}
        if deleted:
            change |= {"new": None, "closed": True}
    elif forge == "bitbucket-server":
        change = payload["changes"][0]
        change["ref"] = {"id": ref, "displayId": name, "type": kind.upper()}
        if deleted:
            change |= {"toHash": nothing, "type": "DELETE"}
    else:
        payload["ref"] = ref
        if deleted:
            payload |= {"after": nothing}
    return payload
