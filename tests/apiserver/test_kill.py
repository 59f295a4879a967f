"""SIGKILL at every write of a function's life: the next controller ends the work, with one Job and one id per event."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from tests.apiserver.conftest import StartOperator
from tests.apiserver.proxy import ApiProxy, Call, Trouble
from tests.apiserver.stage import Stage, inline
from tests.apiserver.tap import EventTap
from tests.apiserver.test_events import assert_whole_life

WRITES_OF_A_LIFE = 6
"""At least: Job, finalizer, Service, and a status for each of building, deploying and Ready."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("heard", [True, False], ids=["after-the-answer", "before-the-answer"])
def test_a_controller_killed_at_every_write_ends_with_one_job_and_every_event(
    heard: bool,
    stage: Stage,
    start_operator: StartOperator,
    proxy: ApiProxy,
    vhost_url: str,
    tap: EventTap,
    tmp_path: Path,
) -> None:
    kubeconfig = proxy.kubeconfig(tmp_path / "k")
    for place in itertools.count():
        name = f"kill-{place}"
        reached = threading.Event()
        operator = start_operator(kubeconfig=kubeconfig, events=vhost_url)
        proxy.trouble(_kill_at(place, name, operator.kill, reached, heard=heard))
        stage.apply("lambdafunctions", inline(name))
        was_killed = reached.wait(15)
        proxy.calm()
        operator.kill()
        successor = start_operator(kubeconfig=kubeconfig, events=vhost_url)
        stage.wait_ready(name, timeout=60)
        assert_whole_life(tap, stage, name)
        assert len(stage.jobs_of(name)) == 1
        successor.kill()  # else it would do the work of the next one that dies
        if not was_killed:
            break
    assert place >= WRITES_OF_A_LIFE, "a life has more writes: the kill points were not reached"


def _kill_at(place: int, name: str, kill: object, reached: threading.Event, *, heard: bool) -> Trouble:
    """At the n-th write that concerns the function: the server has done it, the controller has heard of it or not."""
    count = iter(range(1000))

    def concerns(call: Call) -> bool:
        return call.is_write and (call.name.startswith(name) or call.method == "POST")

    def strike(call: Call) -> None:
        if next(count) == place:
            assert callable(kill)
            threading.Timer(0.02 if heard else 0, lambda: (kill(), reached.set())).start()
            if not heard:
                reached.wait(5)

    return Trouble(concerns, callback=strike)
