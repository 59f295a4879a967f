"""Are the Brokers there that the triggers name? One that is missing is made, where the settings ask for it.

A Broker that is there is used as it is, whoever made it: RabbitMQ's can never be changed, and others send through it.
Brokers are looked for from the start, so that they come up while the build runs.
"""

from __future__ import annotations

from knative_lambda.api import kinds
from knative_lambda.api.conditions import ConditionType, Reason, Status
from knative_lambda.api.meta import Key
from knative_lambda.reconcile.plan import GO, Draft, Share, Verdict, Wait
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.snapshot import Snapshot
from knative_lambda.resources import broker
from knative_lambda.resources.broker import BrokerSettings
from knative_lambda.resources.observed import BrokerSeen


def step(seen: Snapshot, draft: Draft, settings: ReconcileSettings) -> Verdict:
    """One condition, BrokerReady. Waits without a clock: Brokers are watched."""
    asked = [Key(seen.metadata.namespace, name) for name in sorted({one.broker for one in seen.fn.spec.triggers})]
    if not asked:
        draft.conditions.mark_true(ConditionType.BROKER_READY, Reason.NO_TRIGGERS)
        return GO
    wanted = settings.brokers
    found = {key: seen.brokers.get(key.name) for key in asked}
    if wanted is not None:
        draft.writes += [_made(key, wanted) for key, one in found.items() if one is None]
    lacking = [lack for key, one in found.items() if (lack := _lack(key, one, is_made=wanted is not None))]
    kept = [_kept(one) for one in found.values() if one is not None and _differs(one, wanted)]
    message = "; ".join([*lacking, *kept])
    if not lacking:
        draft.conditions.mark_true(ConditionType.BROKER_READY, Reason.BROKER_READY, message)
        return GO
    draft.conditions.mark_false(ConditionType.BROKER_READY, Reason.BROKER_NOT_READY, message)
    return Wait(Reason.BROKER_NOT_READY, message)


def _made(key: Key, wanted: BrokerSettings) -> Share:
    config = (kinds.RABBITMQ_BROKER_CONFIG, broker.config(key.namespace, wanted))
    return Share(kinds.BROKER, broker.manifest(key, wanted), ConditionType.BROKER_READY, needs=(config,))


def _lack(key: Key, found: BrokerSeen | None, *, is_made: bool) -> str:
    """What keeps events from coming through that Broker; empty when nothing does."""
    if found is None:
        return f"Broker {key} is being made" if is_made else f"there is no Broker {key}"
    if found.readiness.status is Status.TRUE:
        return ""
    why = found.readiness.message
    return f"Broker {key} is not ready: {why}" if why else f"Broker {key} is not ready"


def _differs(found: BrokerSeen, wanted: BrokerSettings | None) -> bool:
    """Whether we made it, and would make it otherwise today."""
    return wanted is not None and found.is_ours and found.config != broker.config_name(wanted)


def _kept(found: BrokerSeen) -> str:
    return (
        f"Broker {found.key} keeps the RabbitMQ that it was made with, which is not the one in the settings;"
        " delete it, and it is made anew"
    )
