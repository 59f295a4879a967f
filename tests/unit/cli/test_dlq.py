"""kn-lambda dlq without a RabbitMQ: wrong usage, what is shown, and the way of a letter to its target."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from knative_lambda import settings
from knative_lambda.api import crd, kinds
from knative_lambda.api.meta import Key
from knative_lambda.cli import deployed, letters, replaying
from knative_lambda.cli.failures import Fault
from knative_lambda.cli.letters import Condition, Row
from knative_lambda.cli.replaying import Interruption, Outcome, Pace
from knative_lambda.cli.target import Target, address
from knative_lambda.cluster.base import Forbidden, Object
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.events.dead_letters import Letter
from knative_lambda.events.mailbox import MailboxError, Parked
from knative_lambda.events.sqlite_letters import SqliteLetters
from knative_lambda.kit.clock import ManualClock
from knative_lambda.local import state
from knative_lambda.resources import names
from knative_lambda.settings import SettingsError
from knative_lambda.wiring import dead_letters
from tests.listening import Quiet, served
from tests.unit.cli.terminal import Terminal

LETTER = Parked(b"{}", "application/json", {"ce-id": "1", "knative-lambda-function": "orders"})
AWAY = ("--rabbitmq", "amqp://me:hunter2@127.0.0.1:1/")


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KN_LAMBDA_RABBITMQ", raising=False)


# ---- usage ----


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("list",), "no RabbitMQ is named"),
        (("list", "shop/orders"), "no RabbitMQ is named"),
        (("list", "orders"), "write NAMESPACE/FUNCTION"),
        (("list", "-n", "shop", "shop/orders"), "names have their namespace"),
        (("list", *AWAY), "name the functions, then no cluster is needed: kn-lambda dlq list NAMESPACE/FUNCTION"),
        (("list", *AWAY), "no kubeconfig at ~/.kube/config"),
        (("show", "shop/orders", "--rabbitmq", "http://me:hunter2@localhost/"), "not an AMQP address"),
        (("show", "shop/orders", *AWAY), "RabbitMQ is away"),
        (("show", "shop/orders", "--limit", "0"), "--limit"),
        (("replay", "orders"), "write NAMESPACE/FUNCTION"),
        (("replay", "shop/orders"), "no RabbitMQ is named"),
        (("replay", "shop/orders", *AWAY), "say where the letters shall go, then no cluster is needed: --to URL"),
        (("replay", "shop/orders", "--kubeconfig", "none.yaml", *AWAY), "no kubeconfig at none.yaml"),
        (("replay", "catch-all", *AWAY), "catch-all holds letters of many functions"),
        (("replay", "shop/orders", "--to", "http://localhost", *AWAY), "RabbitMQ is away"),
        (("replay", "shop/orders", "--to", "file:///etc/passwd"), "no http:// or https:// address"),
        (("replay", "shop/orders", "--rate", "-1"), "--rate"),
        (("replay", "shop/orders", "--rate", "0.001"), "--rate: 0.001 is not possible; 0.02"),
        (("replay", "shop/orders", "--rate", "nan"), "--rate"),
        (("replay", "shop/orders", "--rate", "inf"), "--rate: inf is not possible"),
        (("replay", "shop/orders", "--limit", "0"), "--limit"),
        (("replay", "shop/orders", "--timeout", "0"), "--timeout"),
        (("replay", "shop/orders", "--mode", "batch"), "'batch' is not one of"),
        (("purge", "shop/orders", *AWAY), "stdin is no terminal): give --yes"),
        (("purge", "shop/orders", "--yes", *AWAY), "RabbitMQ is away"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line_without_secrets(
    terminal: Terminal, arguments: tuple[str, ...], told: str
) -> None:
    ended = terminal.run("dlq", *arguments)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert told in ended.err
    assert "hunter2" not in ended.err


@pytest.mark.parametrize("command", ["list", "show", "replay", "purge"])
def test_every_command_has_examples_and_its_exit_codes(terminal: Terminal, command: str) -> None:
    ended = terminal.run("dlq", command, "--help")
    assert ended.code == 0
    assert ended.out.count(f"kn-lambda dlq {command} ") >= 3
    assert "Exit codes: 0 " in ended.out


@pytest.mark.parametrize("place", ["orders", "/orders", "shop/", "a/b/c", ""])
def test_place_must_name_a_function(place: str) -> None:
    with pytest.raises(Fault, match="NAMESPACE/FUNCTION"):
        letters.queue_of(place)


def test_catch_all_and_functions_have_their_queues() -> None:
    assert letters.queue_of("catch-all") == "knative-lambda-dlq"
    assert letters.queue_of("shop/orders") == "knative-lambda-dlq.shop.orders"


# ---- local mode's letters ----


def parked(path: Path) -> None:
    """One letter, as local mode leaves it."""
    function = Key("shop", "orders")

    async def park() -> None:
        letters = SqliteLetters(path)
        await letters.ensure(function)
        assert await letters.park(Letter("l-1", names.dead_letter_key(function), b"{}", headers={"ce-id": "e-1"}))
        await letters.close()

    asyncio.run(park())


def test_letters_of_a_local_mode_that_has_ended_are_listed_shown_and_removed(terminal: Terminal) -> None:
    parked(terminal.here / "state" / "letters.db")
    here = ("--state-dir", "state")
    listed = terminal.run("dlq", "list", "shop/orders", *here)
    assert (listed.code, listed.out.splitlines()[1].split()) == (0, ["shop/orders", "1"])
    assert "ce-id: e-1" in terminal.run("dlq", "show", "shop/orders", *here).out
    purged = terminal.run("dlq", "purge", "shop/orders", "--yes", *here)
    assert (purged.code, purged.out) == (0, "1 removed\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("list",), "no local mode runs with the state folder state"),
        (("replay", "shop/orders"), "no local mode runs with the state folder state"),
        (("show", "shop/gone"), "shop/gone has no dead-letter queue: no trigger of such a function was ever here"),
        (("purge", "shop/gone", "--yes"), "no trigger of such a function was ever here (state/letters.db)"),
    ],
)
def test_what_cannot_be_asked_of_a_local_mode_that_has_ended_is_told_in_its_words(
    terminal: Terminal, arguments: tuple[str, ...], told: str
) -> None:
    parked(terminal.here / "state" / "letters.db")
    ended = terminal.run("dlq", *arguments, "--state-dir", "state")
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert "virtual host" not in ended.err


def test_who_asks_rabbitmq_while_a_local_mode_runs_is_told_of_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("KN_LAMBDA_RABBITMQ", AWAY[1])
    aside = "for the local mode that runs give --local"
    assert aside not in terminal.run("dlq", "list").err
    folder = state.default_state("shop")
    held = state.hold(folder)
    parked(state.letters(folder))
    (folder / state.KUBECONFIG).touch()
    try:
        assert aside in terminal.run("dlq", "list").err
        assert "ce-id: e-1" in terminal.run("dlq", "show", "shop/orders", "--local").out
    finally:
        os.close(held)


# ---- what is shown ----


def test_body_that_is_no_text_is_shown_as_base64_and_nothing_talks_to_the_terminal() -> None:
    assert letters.told(Parked(b"\xff\x00", "image/png", {}))["body_base64"] == "/wA="
    shown = letters.lines(letters.told(Parked(b"\x1b[2Jhi", "text/plain", {"ce-id": "\x1b[0m"})))
    assert "\x1b" not in shown


def test_table_says_what_waits_and_why_a_queue_is_not_there() -> None:
    rows = [
        Row("shop/orders", Condition("True", "DLQReady", "")),
        Row("shop/bills", Condition("False", "DLQRefused", "406\x1b[2J")),
        Row("shop/new"),
        Row("catch-all"),
    ]
    depths = {"shop/orders": 12, "shop/bills": None, "shop/new": None, "catch-all": 0}
    assert list(letters.table(rows, depths, with_condition=True)) == [
        ("FUNCTION      WAITING  DLQREADY", "bold"),
        ("shop/orders        12  True", "yellow"),
        ("shop/bills   no queue  False DLQRefused: 406\\x1b[2J", "red"),
        ("shop/new     no queue", None),
        ("catch-all           0", None),
    ]
    assert rows[1].told(None)["dlq_ready"]["reason"] == "DLQRefused"
    assert list(letters.table([Row("catch-all")], depths, with_condition=False)) == [
        ("FUNCTION    WAITING", "bold"),
        ("catch-all         0", None),
    ]


# ---- the cluster ----


def _function(name: str, *, triggers: bool = True, **status: Any) -> Object:
    return {
        "apiVersion": "lambda.knative.io/v1alpha1",
        "kind": "LambdaFunction",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {
            "source": {"type": "inline", "inline": {"code": "x = 1"}},
            "runtime": {"language": "python"},
            **({"triggers": [{"broker": "default"}]} if triggers else {}),
        },
        "status": status,
    }


async def _cluster(*functions: Object) -> MemoryCluster:
    cluster = MemoryCluster(clock=ManualClock(), definitions=crd.definitions())
    for fn in functions:
        key = Key(fn["metadata"]["namespace"], fn["metadata"]["name"])
        await cluster.create(kinds.LAMBDA_FUNCTION, fn)
        await cluster.patch(kinds.LAMBDA_FUNCTION, key, {"status": fn["status"]}, subresource="status")
    return cluster


def _row(kind: str, status: str, reason: str) -> Object:
    when = "2026-01-01T00:00:00Z"
    return {"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": when}


async def test_cluster_names_functions_with_triggers_and_their_condition() -> None:
    ready = {"conditions": [_row("DLQReady", "True", "DLQReady")]}
    cluster = await _cluster(_function("orders", **ready), _function("bills"), _function("web", triggers=False))
    found = await deployed.listening(cluster, None)
    assert [(one.key.name, one.status, one.reason) for one in found] == [
        ("bills", "", ""),
        ("orders", "True", "DLQReady"),
    ]
    assert await deployed.listening(cluster, "elsewhere") == []


async def test_who_may_not_list_every_namespace_is_told_to_name_one() -> None:
    cluster = await _cluster()
    cluster.fail_next("list", None, Forbidden("list lambdafunctions: no"), times=2)
    with pytest.raises(Forbidden, match=r"no; ask for one namespace, with -n$"):
        await deployed.listening(cluster, None)
    with pytest.raises(Forbidden, match=r"no$"):
        await deployed.listening(cluster, "shop")


async def test_target_is_where_the_function_answers() -> None:
    cluster = await _cluster(_function("orders", url="http://orders.shop.example.com"))
    assert await deployed.url(cluster, Key("shop", "orders")) == "http://orders.shop.example.com"


async def test_function_that_is_gone_or_has_no_address_yet_is_told() -> None:
    cluster = await _cluster(_function("orders", conditions=[_row("Ready", "False", "Building")]))
    with pytest.raises(Fault, match=r'"nobody" not found; say where its letters shall go: --to URL'):
        await deployed.url(cluster, Key("shop", "nobody"))
    with pytest.raises(Fault, match=r"shop/orders has no URL yet \(Ready is False: Building\)"):
        await deployed.url(cluster, Key("shop", "orders"))


# ---- the target ----


@contextlib.contextmanager
def _served(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """An address where everything is answered so, and the headers of what came."""
    taken: list[dict[str, str]] = []

    class Handler(Quiet):
        def do_POST(self) -> None:
            self.body()
            taken.append(self.named())
            answer(self)

    with served(Handler) as port:
        yield f"http://127.0.0.1:{port}/", taken


def _status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"content-length": "0", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()

    return answer


def _never(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    time.sleep(1)


def _drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, so that no single wait is long."""
    handler.close_connection = True
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for one in b"HTTP/1.1 200":
            handler.wfile.write(bytes([one]))
            time.sleep(0.1)


def _other(handler: BaseHTTPRequestHandler) -> None:
    """Speaks something else."""
    handler.close_connection = True
    handler.wfile.write(b"220 mail.example.com ESMTP\r\n\r\n")


def _half(handler: BaseHTTPRequestHandler) -> None:
    """Accepts, and breaks off in the body."""
    _status(200, **{"content-length": "100"})(handler)
    handler.close_connection = True


@pytest.mark.parametrize(
    ("answer", "accepted", "problem", "answered"),
    [
        (_status(202), True, "", True),
        (_half, True, "", True),
        (_status(500), False, "HTTP 500", True),
        (_status(302, location="http://127.0.0.1:1/"), False, "HTTP 302, a redirect, which is not followed", True),
        (_never, False, "no answer within 0.4 s", False),
        (_other, False, "it does not speak HTTP", False),
        (_drip, False, "no answer within 0.4 s", False),
    ],
)
def test_only_2xx_accepts_a_letter(
    answer: Callable[[BaseHTTPRequestHandler], None], accepted: bool, problem: str, answered: bool
) -> None:
    with _served(answer) as (url, taken), Target.parse(url, timeout=0.4) as target:
        assert target.accepts(LETTER) is accepted
        assert (target.problem, target.answered) == (problem, answered)
    assert len(taken) == 1


def test_target_gets_the_event_and_nothing_of_its_death() -> None:
    letter = Parked(
        b"{}", "application/json", {**LETTER.headers, "ce-knativeerrorcode": "500", "ce-subject": "caf\xc3\xa9"}
    )
    with _served(_status(202)) as (url, taken), Target.parse(url, timeout=5) as target:
        assert target.accepts(letter)
        assert target.accepts(letter)
    sent = {name: value for name, value in taken[0].items() if name not in ("host", "accept", "accept-encoding")}
    assert sent == {
        "ce-id": "1", "ce-subject": "caf%C3%A9", "content-type": "application/json", "content-length": "2",
        "user-agent": "kn-lambda",
    }  # fmt: skip


def test_connection_that_the_target_closed_in_a_pause_costs_no_letter() -> None:
    def once(handler: BaseHTTPRequestHandler) -> None:
        _status(202)(handler)
        handler.close_connection = True

    with _served(once) as (url, taken), Target.parse(url, timeout=5) as target:
        for _ in range(3):
            assert target.accepts(LETTER), target.problem
            target.rest(0.05)
    assert len(taken) == 3


def test_target_that_is_away_accepts_nothing_and_says_why() -> None:
    with Target.parse("http://127.0.0.1:1/", timeout=1) as target:
        assert not target.accepts(LETTER)
        assert "Cannot connect to host 127.0.0.1:1" in target.problem
        assert not target.answered


@pytest.mark.parametrize(
    "url",
    [
        "",
        "orders",
        "ftp://x/",
        "http://",
        "http://h:99999/",
        "http://[::1/",
        "http://h:0/",
        "http://h/\x1b[2J",
        "http://a b/",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Fault, match="no http:// or https:// address") as caught:
        address(url)
    assert "\x1b" not in str(caught.value)


def test_address_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(Fault, match="a password are not sent") as caught:
        address("http://me:hunter2@orders/")
    assert "hunter2" not in str(caught.value)


# ---- the replay ----


class Box:
    """A mailbox with one queue, that may break after so many letters."""

    def __init__(self, count: int, *, breaks_after: int | None = None) -> None:
        self.letters = [Parked(b"{}", "application/json", {"ce-id": str(number)}) for number in range(count)]
        self._breaks_after = breaks_after

    def drain(self, queue: str, limit: int, deliver: Callable[[Parked], bool]) -> tuple[int, int]:
        for number, letter in enumerate(list(self.letters)[:limit]):
            if number == self._breaks_after:
                raise MailboxError("RabbitMQ is away (gone)")
            if deliver(letter):
                self.letters.remove(letter)
        return 0, 0

    def depth(self, queue: str) -> int | None:
        return len(self.letters)

    def peek(self, queue: str, limit: int) -> list[Parked]:
        return self.letters[:limit]

    def purge(self, queue: str) -> int:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""


class Recipient:
    """Answers by a plan: True accepts, False refuses, None says nothing; the last one holds for all others."""

    def __init__(self, *plan: bool | None) -> None:
        self.problem = ""
        self.answered = True
        self.rested: list[float] = []
        self.taken: list[str] = []
        self._plan = list(plan)

    def accepts(self, letter: Parked) -> bool:
        answer = self._plan.pop(0) if len(self._plan) > 1 else self._plan[0]
        self.taken.append(letter.headers["ce-id"])
        self.answered = answer is not None
        self.problem = "" if answer else "HTTP 500" if self.answered else "no answer"
        return bool(answer)

    def rest(self, seconds: float) -> None:
        self.rested.append(seconds)
        time.sleep(seconds)


def _replay(box: Box, recipient: Recipient, *, rate: float = 0, give_up_after: int = 3) -> Outcome:
    pace = Pace(rate=rate, give_up_after=give_up_after)
    return replaying.replay(box, "q", 100, target=recipient, pace=pace, advance=lambda: None)


def test_what_is_refused_stays_and_what_comes_after_it_is_delivered() -> None:
    box = Box(4)
    assert _replay(box, Recipient(True, False, False, True)) == Outcome(delivered=2, refused=2, problem="HTTP 500")
    assert [one.headers["ce-id"] for one in box.letters] == ["1", "2"]


def test_replay_gives_up_when_nobody_answers_many_times_in_a_row() -> None:
    box, recipient = Box(9), Recipient(None, None, True, None)
    outcome = _replay(box, recipient)
    assert (outcome.ended, outcome.delivered) == ("no answer", 1)
    assert len(recipient.taken) == 6
    assert _replay(Box(9), Recipient(None), give_up_after=0).refused == 9


def test_replay_is_not_faster_than_asked_even_after_a_slow_delivery() -> None:
    at: list[float] = []

    class Slow(Recipient):
        def accepts(self, letter: Parked) -> bool:
            at.append(time.monotonic())
            time.sleep(0.1 if len(at) == 2 else 0)
            return super().accepts(letter)

    assert _replay(Box(6), Slow(True), rate=50).delivered == 6
    gaps = [later - sooner for sooner, later in pairwise(at)]
    assert min(gaps) >= 0.015, gaps


def test_connection_that_breaks_in_a_replay_is_told_with_what_was_delivered() -> None:
    with pytest.raises(Fault, match=r"RabbitMQ is away \(gone\); 2 letters were accepted before"):
        _replay(Box(4, breaks_after=2), Recipient(True))


def test_signal_in_a_pause_stops_at_once_and_elsewhere_after_the_letter() -> None:
    interruption = Interruption()
    with interruption.watched():
        with interruption.pausing():
            pass
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), interruption.pausing():
            pytest.fail("the next letter is not begun")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    paused = Interruption()
    with paused.watched(), pytest.raises(KeyboardInterrupt), paused.pausing():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# ---- the controller's settings for them ----


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"dead_letters": "amqp", "events": "none"}, "name the RabbitMQ"),
        ({"dead_letters": "amqp", "rabbitmq": "amqp://localhost/", "http_port": 0}, "give http_port"),
        ({"dead_letters": "operator", "rabbitmq": "amqp://localhost/"}, "either rabbitmq_cluster or"),
        (
            {
                "dead_letters": "operator",
                "rabbitmq": "amqp://localhost/",
                "rabbitmq_cluster": "a/b",
                "rabbitmq_secret": "c",
            },
            "either rabbitmq_cluster or",
        ),
    ],
)
def test_settings_that_lose_dead_letters_are_refused(chosen: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        settings.load(**chosen)


def test_sink_is_the_service_of_the_release_unless_an_address_is_given() -> None:
    found = settings.load(dead_letters="amqp", rabbitmq="amqp://localhost/", lease_name="kl", lease_namespace="system")
    sink = dead_letters.sink(found)
    assert sink is not None
    assert sink.url == "http://kl.system.svc.cluster.local:8080"
    given = settings.load(dead_letters="amqp", rabbitmq="amqp://localhost/", dead_letter_url="http://10.0.0.1:8080/")
    assert dead_letters.sink(given) == type(sink)("http://10.0.0.1:8080")
    assert dead_letters.sink(settings.load(events="none")) is None
