"""The private network in which this tier runs leads nowhere."""

from __future__ import annotations

import errno
import socket

from tests.testbed.knative import netns


def test_nothing_outside_is_reached_and_a_pods_address_is() -> None:
    with socket.socket() as outwards:
        outwards.settimeout(5)
        assert outwards.connect_ex(("192.0.2.1", 80)) == errno.ENETUNREACH
    with socket.create_server((netns.POD_ADDRESS, 0)) as pod, socket.socket() as caller:
        caller.settimeout(5)
        assert caller.connect_ex(pod.getsockname()) == 0
