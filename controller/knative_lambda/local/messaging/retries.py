"""How often and after which pauses an event is delivered again, by the rules of the RabbitMQ Broker's dispatcher.

Called by delivery; the policy comes from a Trigger's or a Broker's `spec.delivery`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NO_ANSWER = -1
"""Stands for the status of a delivery that nobody answered; Knative writes it into dead letters, too."""
LONGEST_ATTEMPT = 600.0
"""Seconds of an attempt where no timeout is asked for: Knative lets no request to a Service take longer."""
SHORTEST_PAUSE = 0.05
"""Seconds that the dispatcher takes for a backoffDelay that is not there."""
LONGEST_PAUSE = 3600.0
MOST_RETRIES = 100

_RETRIED = frozenset({404, 408, 409, 429})
_DURATION = re.compile(
    r"^P(?:(?P<days>\d+)D)?(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?$"
)
_SECONDS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}


@dataclass(frozen=True, slots=True)
class Policy:
    """What happens to an event that was not taken. Without any `delivery` there is one attempt."""

    retries: int = 0
    exponential: bool = True
    delay: float = SHORTEST_PAUSE
    timeout: float = LONGEST_ATTEMPT
    """Seconds of one attempt."""

    @property
    def attempts(self) -> int:
        return self.retries + 1

    def pause(self, number: int) -> float:
        """Seconds before the repetition of that number, from 1: with PT1S 2, 4, 8 … or 1, 2, 3 …"""
        factor = 2.0 ** min(number, 32) if self.exponential else float(number)
        return min(LONGEST_PAUSE, self.delay * factor)


def is_retried(status: int) -> bool:
    """Everything else counts as delivered, 400 and redirects too."""
    return status == NO_ANSWER or status in _RETRIED or status >= 500


def policy_of(delivery: Mapping[str, Any]) -> Policy:
    """The policy of a `spec.delivery`. Raises ValueError with the field that no API server would have taken."""
    retries = delivery.get("retry", 0)
    if not isinstance(retries, int) or isinstance(retries, bool) or not 0 <= retries <= MOST_RETRIES:
        raise ValueError(f"delivery.retry must be a number from 0 to {MOST_RETRIES}")
    backoff = delivery.get("backoffPolicy", "exponential")
    if backoff not in ("exponential", "linear"):
        raise ValueError(f"delivery.backoffPolicy must be exponential or linear, not {backoff!r}")
    return Policy(
        retries=retries,
        exponential=backoff == "exponential",
        delay=_seconds(delivery, "backoffDelay") or SHORTEST_PAUSE,
        timeout=_seconds(delivery, "timeout") or LONGEST_ATTEMPT,
    )


def _seconds(delivery: Mapping[str, Any], name: str) -> float:
    """An ISO 8601 duration; 0 where there is none."""
    text = delivery.get(name)
    if text is None:
        return 0.0
    found = _DURATION.match(text) if isinstance(text, str) else None
    if found is None or not any(found.groups()):
        raise ValueError(f"delivery.{name} must be an ISO 8601 duration such as PT1S, not {text!r}")
    return sum(float(found[unit]) * size for unit, size in _SECONDS.items() if found[unit])
