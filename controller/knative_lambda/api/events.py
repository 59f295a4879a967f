"""The 17 CloudEvent types and their payloads, and the identity of an event."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import ConfigDict, Field

from knative_lambda.api.meta import Seen
from knative_lambda.api.phases import Phase

SOURCE = "/knative-lambda/operator"
"""CloudEvent source of what we publish; an event of this source that comes back is a fact, never a command."""


class Category(StrEnum):
    """First half of a type; the extension `lambdacategory`, which Triggers can filter on."""

    FUNCTION = "function"
    BUILD = "build"
    SERVICE = "service"
    STATUS = "status"
    PARSER = "parser"


class EventType(StrEnum):
    """Past tense: facts."""

    FUNCTION_CREATED = "lambda.function.created"
    """A LambdaFunction was created."""
    FUNCTION_UPDATED = "lambda.function.updated"
    """A LambdaFunction's spec was changed."""
    FUNCTION_DELETED = "lambda.function.deleted"
    """A LambdaFunction is gone, with everything that was made for it."""
    BUILD_STARTED = "lambda.build.started"
    """The build Job was created."""
    BUILD_COMPLETED = "lambda.build.completed"
    """The image is built and pushed."""
    BUILD_FAILED = "lambda.build.failed"
    """The build Job failed."""
    BUILD_TIMEOUT = "lambda.build.timeout"
    """The build took longer than spec.build.timeout."""
    BUILD_CANCELLED = "lambda.build.cancelled"
    """A build was given up because a newer source replaced it."""
    BUILD_STOPPED = "lambda.build.stopped"
    """A build was ended because its function was deleted."""
    SERVICE_CREATED = "lambda.service.created"
    """The Knative Service was created."""
    SERVICE_UPDATED = "lambda.service.updated"
    """The Knative Service was changed."""
    SERVICE_DELETED = "lambda.service.deleted"
    """The Knative Service was deleted."""
    STATUS_UPDATED = "lambda.status.updated"
    """The phase of a function changed."""
    HEALTH_CHECK = "lambda.health.check"
    """A function's health was looked at."""
    PARSER_STARTED = "lambda.parser.started"
    """A parser began its work."""
    PARSER_COMPLETED = "lambda.parser.completed"
    """A parser ended well."""
    PARSER_FAILED = "lambda.parser.failed"
    """A parser ended with an error."""

    @property
    def category(self) -> Category:
        name = self.value.split(".")[1]
        return Category.STATUS if name == "health" else Category(name)


class Payload(Seen):
    """Base of the data of an event; snake_case on the wire, as the design document's consumers expect."""

    model_config = ConfigDict(alias_generator=None)


class FunctionEventData(Payload):
    """Data of lambda.function.*."""

    name: str
    """Name of the function."""
    namespace: str = "knative-lambda"
    """Namespace of the function."""
    spec: dict[str, Any] = Field(default_factory=dict)
    """The spec as it was when this happened; empty when the function is gone."""
    status: dict[str, Any] | None = None
    """The status as it was when this happened."""


class BuildEventData(Payload):
    """Data of lambda.build.*."""

    function_name: str
    """Name of the function."""
    namespace: str = "knative-lambda"
    """Namespace of the function."""
    build_id: str
    """Identity of the build: the same source, runtime and builder have the same."""
    job_name: str | None = None
    """Job that builds."""
    image_uri: str | None = None
    """Image by digest, once it is pushed."""
    status: Literal["started", "completed", "failed", "timeout", "cancelled", "stopped"]
    """The last word of the event's type."""
    error: str | None = None
    """Why the build failed."""
    duration_seconds: float | None = None
    """From the start of the Job to its end."""


class ServiceEventData(Payload):
    """Data of lambda.service.*."""

    service_name: str
    """Name of the Knative Service, which is the function's."""
    namespace: str = "knative-lambda"
    """Namespace of the function."""
    url: str | None = None
    """Where the function answers."""
    status: dict[str, Any] | None = None
    """What Knative says of the Service."""


class StatusEventData(Payload):
    """Data of lambda.status.updated and lambda.health.check."""

    function_name: str
    """Name of the function."""
    namespace: str = "knative-lambda"
    """Namespace of the function."""
    phase: Phase
    """The phase that the function has now."""
    conditions: list[dict[str, Any]] | None = None
    """The conditions as they were when this happened."""
    health_status: Literal["healthy", "unhealthy", "unknown"] | None = None
    """Whether the function answers."""


class ParserEventData(Payload):
    """Data of lambda.parser.*."""

    parser_id: str
    """Which parser."""
    function_name: str
    """Name of the function that the parser works for."""
    execution_id: str
    """Which of its runs."""
    status: Literal["started", "completed", "failed"]
    """The last word of the event's type."""
    error: str | None = None
    """Why the parser failed."""
    duration_ms: float | None = None
    """Length of the run in milliseconds."""


PAYLOADS: dict[Category, type[Payload]] = {
    Category.FUNCTION: FunctionEventData,
    Category.BUILD: BuildEventData,
    Category.SERVICE: ServiceEventData,
    Category.STATUS: StatusEventData,
    Category.PARSER: ParserEventData,
}


def payload_of(kind: EventType) -> type[Payload]:
    """The payload model of a type."""
    return PAYLOADS[kind.category]


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent 1.0 with JSON data. `extensions` are string-valued (`correlationid`, `causationid`, …)."""

    id: str
    type: str
    source: str
    time: datetime
    data: dict[str, Any]
    subject: str = ""
    extensions: dict[str, str] = field(default_factory=dict)
