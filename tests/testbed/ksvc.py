"""Knative's own opinion on Knative Services: defaulting and validation by `ksvccheck`, without an API server.

Called by the tests of our Service builder.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.testbed import assets
from tests.testbed.errors import BedError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Finding:
    """One complaint: `document` counts from 0 in the order given, `level` is `error` or `warning`."""

    document: int
    name: str
    level: str
    message: str


def check(manifests: Iterable[dict[str, Any]]) -> list[Finding]:
    """Findings about Service manifests as Knative's webhook would have them at creation."""
    stream = "\n---\n".join(json.dumps(one) for one in manifests)
    done = subprocess.run(
        [str(assets.ksvccheck())], input=stream, capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode not in {0, 1}:
        raise BedError(f"ksvccheck ended with {done.returncode}: {done.stderr.strip()}")
    return [
        Finding(found["document"], found["name"], found["level"], found["message"]) for found in json.loads(done.stdout)
    ]
