"""Bitbucket Data Center (once Server): signs as the Cloud does, and speaks otherwise."""

from __future__ import annotations

from knative_lambda.receivers import bitbucket
from knative_lambda.receivers import payload as reading
from knative_lambda.receivers.base import Change, Delivery, Headers, Ignored, Look, News, Payload, Ping, Push, Verdict


class BitbucketServer:
    """Asked after the Cloud, whose event header it shares."""

    name = "bitbucket-server"

    def matches(self, headers: Headers) -> bool:
        return "x-event-key" in headers

    def delivery_id(self, headers: Headers) -> str:
        return headers.get("x-request-id", "")

    def verify(self, delivery: Delivery, token: bytes) -> Verdict:
        return bitbucket.judge(delivery, token)

    def read(self, headers: Headers, payload: Payload) -> News:
        event = headers.get("x-event-key")
        if event == "diagnostics:ping":
            return Ping()
        if event not in ("repo:refs_changed", "mirror:repo_synchronized"):
            return Ignored("this event does not move a branch or tag")
        changes = tuple(_change(row) for row in reading.rows(payload, "changes"))
        return Push(changes) if changes and all(one.ref for one in changes) else Look()


def _change(row: Payload) -> Change:
    after = reading.text(row, "toHash")
    return Change(
        ref=reading.text(row, "ref", "id"),
        before=reading.text(row, "fromHash"),
        after=after,
        deleted=reading.text(row, "type") == "DELETE" or reading.is_nothing(after),
    )
