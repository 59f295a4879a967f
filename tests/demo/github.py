"""GitHub, as far as a receiver sees it: the sample push of hooks/samples, about our commit, signed with the Secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.apiserver.stage import Object

SAMPLE = Path(__file__).parents[2] / "hooks" / "samples" / "github.json"
SECRET = "shop-webhook"


@dataclass
class GitHub:
    """One repository's webhook."""

    url: str
    """The controller's port and the path of the FunctionRepository's status."""
    token: str = field(repr=False)
    before: str = ""
    """The commit that GitHub told of last."""

    def tell(self, commit: str) -> int:
        """Delivers the push of that commit; the status that was answered."""
        payload: dict[str, Any] = json.loads(SAMPLE.read_text())
        payload |= {"before": self.before or payload["before"], "after": commit}
        self.before = payload["head_commit"]["id"] = payload["commits"][0]["id"] = commit
        body = json.dumps(payload).encode()
        signature = hmac.new(self.token.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-Hub-Signature-256": f"sha256={signature}",
        }
        return httpx.post(self.url, content=body, headers=headers, timeout=10, trust_env=False).status_code


def new_token() -> str:
    """What a person makes up for the webhook."""
    return secrets.token_hex(20)


def secret(token: str) -> Object:
    """The Secret that the FunctionRepository names."""
    data = {"token": base64.b64encode(token.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "data": data}
