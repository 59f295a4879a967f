"""`make demo`: from nothing to a push that becomes Ready functions, and a dead letter that is sent again.

Starts real servers on loopback (etcd, kube-apiserver, kube-controller-manager, RabbitMQ, git), the controller as a user
starts it, and stand-ins for kubelet and Knative; pushes functions-example-repo and tells the controller by signed
webhooks; shows what was made and what RabbitMQ has; replays a dead letter; and ends everything.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack

from tests.demo import dead_letter, pushes, tables, world
from tests.demo.told import say
from tests.testbed.errors import Unavailable


def main() -> int:
    """The exit code."""
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            started = world.start(stack)
            pushes.play(started)
            tables.show_objects(started.stage)
            tables.show_events(started)
            dead_letter.play(started)
    except Unavailable as gap:
        say(f"[red]the demo cannot run here:[/] {gap.reason}")
        return 1
    took = time.monotonic() - began
    say(f"\n[bold green]demo finished[/] in {took:.0f} s; everything it started is ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
