"""The last act: an event that its function could not take is kept in RabbitMQ, and sent again."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.apiserver.stage import Object, Stage, condition
from tests.demo.told import Timeline, kn_lambda, say, show_command
from tests.demo.world import NAMESPACE, World
from tests.listening import Quiet, served

FUNCTION = "order-events"
PLACE = f"{NAMESPACE}/{FUNCTION}"
ORDER = {"order": 1042, "total": None}
COMPLAINT = "TypeError: unsupported operand type(s) for *: 'NoneType' and 'float'"


def play(world: World) -> None:
    """Ends with an empty queue and an order that was delivered once."""
    say(f"\n[bold]a dead letter[/] (an order that {FUNCTION} cannot take)")
    say("  No pod runs here. So the broken function, the dispatcher of Knative that gives up on it, and the")
    say("  mended function are played; the Trigger, its sink, the queue and the command are real.")
    timeline = Timeline()
    fn, sink = _expecting_letters(world.stage)
    timeline.note(f"its Trigger sends what it cannot take to {sink}")
    answered = _give_up(sink, fn["status"]["url"])
    assert answered == 202, f"the dead-letter sink answered {answered}"
    timeline.note(f"after six refusals the event is POSTed there; answered {answered}: it is in RabbitMQ, confirmed")
    _show_list(world, letters=1)
    _replay(world, timeline)


def _replay(world: World, timeline: Timeline) -> None:
    with _mended() as (url, taken):
        timeline.note(f"the function is mended (a small HTTP server stands for it: {url})")
        command = ("dlq", "replay", PLACE, "--to", url)
        show_command(*command, printed=kn_lambda(*command, rabbitmq=world.rabbitmq))
    [(identity, body)] = taken
    assert json.loads(body) == ORDER
    timeline.note(f"it took {identity}: {body.decode()}")
    _show_list(world, letters=0)


def _expecting_letters(stage: Stage) -> tuple[Object, str]:
    """The function once its queue is there, and the sink that its Trigger names."""

    def ready() -> Object | None:
        fn = stage.function(FUNCTION)
        return fn if fn is not None and condition(fn, "DLQReady").get("reason") == "DLQReady" else None

    fn = stage.wait(ready, what=f"a dead-letter queue for {FUNCTION}")
    [trigger] = stage.triggers_of(FUNCTION)
    sink: str = trigger["spec"]["delivery"]["deadLetterSink"]["uri"]
    return fn, sink


def _give_up(sink: str, tried: str) -> int:
    """What Knative's dispatcher does after the last retry; the status that was answered."""
    headers = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "order-1042",
        "ce-source": "/shop/checkout",
        "ce-type": "com.example.order.placed",
        "ce-knativeerrordest": tried,
        "ce-knativeerrorcode": "500",
        "ce-knativeerrordata": base64.b64encode(COMPLAINT.encode()).decode(),
    }
    return httpx.post(sink, content=json.dumps(ORDER), headers=headers, timeout=10, trust_env=False).status_code


def _show_list(world: World, *, letters: int) -> None:
    """The list, once it says that so many wait."""
    command = ("dlq", "list", PLACE)

    def expected() -> str | None:
        printed = kn_lambda(*command, rabbitmq=world.rabbitmq)
        [row] = [line.split() for line in printed.splitlines() if line.startswith(PLACE)]
        return printed if str(letters) in row[1:] else None

    show_command(*command, printed=world.stage.wait(expected, what=f"{letters} letters in the queue of {PLACE}"))


@contextmanager
def _mended() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Its address, and (id, body) of the events that it took."""
    taken: list[tuple[str, bytes]] = []

    class Handler(Quiet):
        def do_POST(self) -> None:
            taken.append((self.headers["ce-id"], self.body()))
            self.answer(200)

    with served(Handler) as port:
        yield f"http://127.0.0.1:{port}/", taken
