"""Which events a Trigger wants, by the rules of the RabbitMQ Broker. Called by lanes."""

from __future__ import annotations

from collections.abc import Mapping

from knative_lambda.events.encoding import Message


def matches(wanted: Mapping[str, str], message: Message) -> bool:
    """Whether every wanted attribute is there with exactly this value; nothing wanted is everything.

    As in RabbitMQ, `datacontenttype` equals nothing, for its header is `content-type`, and an extension that came as a
    JSON number or boolean equals no string: what is delivered here must be delivered in a cluster, too.
    """
    return all(message.attributes.get(name) == value and name not in message.numbers for name, value in wanted.items())
