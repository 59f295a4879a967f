"""The adapters of one process, chosen once and shared by its controllers."""

from __future__ import annotations

from dataclasses import dataclass

from knative_lambda.cluster.base import Cluster
from knative_lambda.events.base import Bus
from knative_lambda.events.dead_letters import DeadLetterQueues
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.recorder import Recorder


@dataclass(frozen=True, slots=True)
class Ports:
    """What every controller needs of the world outside."""

    cluster: Cluster
    bus: Bus
    recorder: Recorder
    clock: Clock
    dead_letters: DeadLetterQueues | None = None
    """None where dead letters are switched off."""
