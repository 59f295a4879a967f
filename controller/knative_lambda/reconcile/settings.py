"""What a platform engineer decides for every function; made by wiring from the controller's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from knative_lambda.api.function import Language
from knative_lambda.resources.broker import BrokerSettings
from knative_lambda.resources.kaniko_job import BuildSettings
from knative_lambda.resources.knative_service import ServingSettings
from knative_lambda.resources.trigger import DeadLetterSink


@dataclass(frozen=True, slots=True)
class ReconcileSettings:
    """Read by the steps and by `report`."""

    build: BuildSettings
    runtimes: Mapping[Language, tuple[str, ...]]
    """Language -> versions that can be built, oldest first."""
    serving: ServingSettings = field(default_factory=ServingSettings)
    brokers: BrokerSettings | None = None
    """How to make the Brokers that triggers name; without it somebody else makes them."""
    dead_letters: DeadLetterSink | None = None
    """Where Triggers send what a function could not take; without it they inherit their Broker's delivery."""
    deletion_patience: float = 600.0
    """Seconds that a deleted function is held for its last events to be confirmed."""
