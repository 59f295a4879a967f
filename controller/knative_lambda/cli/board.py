"""What `kn-lambda dev` shows: a row per function, and a line for whatever happens. Pure; drawn by cli.screens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from knative_lambda.api.events import Event
from knative_lambda.api.meta import ANNOTATION_REVISION, Key
from knative_lambda.local.messaging.delivery import Notice, What

REVISION_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One function, as its status has it."""

    key: Key
    phase: str
    message: str
    """Why it is not ready; empty when it is."""
    revision: str
    """Beginning of the commit at which it last changed."""
    url: str

    def news(self, before: Row | None) -> bool:
        """Whether a person would want to be told."""
        return before is None or (self.phase, self.message, self.revision) != (
            before.phase,
            before.message,
            before.revision,
        )


def row(obj: dict[str, Any]) -> Row:
    """From a LambdaFunction; what its controller has not looked at yet is pending."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    ready: dict[str, Any] = next((one for one in status.get("conditions") or [] if one.get("type") == "Ready"), {})
    is_old = status.get("observedGeneration", 0) < metadata.get("generation", 0)
    phase = "Pending" if is_old else status.get("phase") or "Pending"
    return Row(
        key=Key(metadata.get("namespace", ""), metadata["name"]),
        phase=phase,
        message="" if phase == "Ready" else ready.get("message", ""),
        revision=(metadata.get("annotations") or {}).get(ANNOTATION_REVISION, "")[:REVISION_LENGTH],
        url=status.get("url", ""),
    )


def told(event: Event) -> str:
    """A lifecycle event in a line: `build.completed hello`, and why, where something failed."""
    name = event.data.get("function_name") or event.data.get("service_name") or event.data.get("name") or event.subject
    phase, error = event.data.get("phase"), event.data.get("error")
    rest = f" {phase}" if phase else f": {error}" if error else ""
    return f"{event.type.removeprefix('lambda.')} {name}{rest}"


def told_delivery(notice: Notice) -> str:
    """What the broker did with an event, in a line."""
    function = notice.function.name if notice.function else notice.broker.name
    answer = "no answer" if notice.status < 0 else f"HTTP {notice.status}"
    words = {
        What.ACCEPTED: f"accepted by broker {notice.broker.name}",
        What.UNWANTED: f"nobody asks broker {notice.broker.name} for it",
        What.DELIVERED: f"delivered to {function}",
        What.FAILED: f"not taken by {function}: {answer}, attempt {notice.attempt}",
        What.DEAD: f"a dead letter of {function}",
    }
    return f"{notice.type} {notice.id}: {words[notice.what]}"


def told_link(problem: str) -> str:
    """Whether lifecycle events reach the RabbitMQ that was named, in a line."""
    return f"lifecycle events wait, functions go on: {problem}" if problem else "lifecycle events go out again"


def told_remark(subject: str, text: str) -> str:
    """What a person should know and what stops nobody, in a line."""
    return f"{subject}: {text}" if subject else text
