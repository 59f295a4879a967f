"""All stand-ins in one process: `python -m tests.testbed.standins --kubeconfig FILE [--one-write]`.

Prints `ready` once everything was listed; ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from tests.testbed.standins import Knative, Kubelet, PodOutcome, ServiceOutcome


def main() -> None:
    """Run until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--build-seconds", type=float, default=0.0, help="how long every build Pod runs")
    parser.add_argument("--ready-seconds", type=float, default=0.0, help="how long every revision takes")
    parser.add_argument("--one-write", action="store_true", help="leave out the statuses between")
    asked = parser.parse_args()
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    kubelet = Kubelet(kubeconfig=asked.kubeconfig, default=PodOutcome.succeed(delay=asked.build_seconds))
    knative = Knative(
        kubeconfig=asked.kubeconfig,
        default=ServiceOutcome.ready(delay=asked.ready_seconds),
        in_steps=not asked.one_write,
    )
    with kubelet, knative:
        print("ready", flush=True)
        over.wait()


if __name__ == "__main__":
    main()
