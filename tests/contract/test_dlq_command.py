"""`kn-lambda dlq` as a process, on a real RabbitMQ: wrong passwords, hanging targets, Ctrl-C, and who must say yes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from tests.contract.test_dead_letters import ORDERS, QUEUE, connected, letter, mailbox
from tests.listening import Quiet, served
from tests.testbed import fixtures

rabbitmq_bed = fixtures.rabbitmq_bed
vhost_url = fixtures.vhost_url
uncaptured = fixtures.uncaptured

pytestmark = pytest.mark.contract

PLACE = str(ORDERS)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "knative_lambda", "dlq", *arguments]


def dlq(url: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"KN_LAMBDA_RABBITMQ": url, "KUBECONFIG": "nowhere"}
    done = subprocess.run(
        command(*arguments), env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


async def fill(url: str, count: int) -> None:
    async with connected(url) as letters:
        assert (await letters.ensure(ORDERS)).is_ready
        for number in range(count):
            assert await letters.park(letter(number))


def waiting(url: str) -> list[str]:
    """Sorted, for RabbitMQ may put what it gets back at the end."""
    with mailbox(url) as box:
        return sorted(one.headers["ce-id"] for one in box.peek(QUEUE, 100))


class Function:
    """A target: remembers which events it took; `before` is called before each answer."""

    def __init__(self, before: Callable[[int], None] = lambda _number: None, *, status: int = 200) -> None:
        self.taken: list[str] = []
        self.begun = threading.Event()
        self.status = status
        self._before = before

    @contextlib.contextmanager
    def served(self) -> Iterator[str]:
        function = self

        class Handler(Quiet):
            def do_POST(self) -> None:
                self.body()
                function.taken.append(self.headers["ce-id"])
                function.begun.set()
                function._before(len(function.taken))
                with contextlib.suppress(OSError):
                    self.answer(function.status)

        with served(Handler) as port:
            yield f"http://127.0.0.1:{port}/"


@contextlib.contextmanager
def replaying(url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"KN_LAMBDA_RABBITMQ": url}
    with subprocess.Popen(
        command("replay", PLACE, *arguments, "-o", "json"),
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield process
        process.kill()


async def test_ctrl_c_ends_a_replay_between_two_letters_so_that_none_is_lost_or_sent_twice(vhost_url: str) -> None:
    await fill(vhost_url, 6)
    first = Function(lambda number: time.sleep(1 if number == 3 else 0))
    with first.served() as to, replaying(vhost_url, "--to", to, "--rate", "0") as process:
        while len(first.taken) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, json.loads(out)) == (130, {"delivered": 3, "left": 3, "problem": "interrupted"})
    assert err == "stopping after this letter; once more breaks it off\n"
    assert waiting(vhost_url) == ["e-3", "e-4", "e-5"]
    second = Function()
    with second.served() as to:
        assert "3 delivered, 0 left" in dlq(vhost_url, "replay", PLACE, "--to", to).stdout
    assert first.taken + second.taken == [f"e-{number}" for number in range(6)]


async def test_ctrl_c_in_a_pause_ends_the_replay_at_once(vhost_url: str) -> None:
    await fill(vhost_url, 2)
    function = Function()
    with function.served() as to, replaying(vhost_url, "--to", to, "--rate", "0.02") as process:
        assert function.begun.wait(30)
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert err == ""
    assert (process.returncode, json.loads(out)["delivered"]) == (130, 1)
    assert waiting(vhost_url) == ["e-1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_second_ctrl_c_breaks_off_a_delivery_that_hangs_and_the_letter_stays(
    vhost_url: str, number: signal.Signals
) -> None:
    await fill(vhost_url, 2)
    ended = threading.Event()
    function = Function(lambda _number: ended.wait(30) and None)
    with function.served() as to, replaying(vhost_url, "--to", to) as process:
        assert function.begun.wait(30)
        process.send_signal(number)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        ended.set()
    assert err == "stopping after this letter; once more breaks it off\n"
    assert (process.returncode, json.loads(out)["delivered"]) == (130, 0)
    assert waiting(vhost_url) == ["e-0", "e-1"]


async def test_killed_replay_loses_nothing(vhost_url: str) -> None:
    await fill(vhost_url, 3)
    ended = threading.Event()
    function = Function(lambda number: (number == 2 and ended.wait(30)) and None)
    with function.served() as to, replaying(vhost_url, "--to", to) as process:
        while len(function.taken) < 2:
            time.sleep(0.01)
        process.kill()
        process.wait(20)
        ended.set()
    assert "e-1" in waiting(vhost_url)
    assert "e-2" in waiting(vhost_url)


async def test_target_that_hangs_is_given_up_and_every_letter_stays(vhost_url: str) -> None:
    await fill(vhost_url, 5)
    ended = threading.Event()
    function = Function(lambda _number: ended.wait(30) and None)
    with function.served() as to:
        done = dlq(vhost_url, "replay", PLACE, "--to", to, "--timeout", "0.3", "--give-up-after", "2", code=1)
        ended.set()
    assert done.stdout == "0 delivered, 5 left; no answer; no answer within 0.3 s\n"
    assert function.taken == ["e-0", "e-1"]
    assert waiting(vhost_url) == [f"e-{number}" for number in range(5)]


async def test_redirect_is_a_refusal(vhost_url: str) -> None:
    await fill(vhost_url, 2)
    function = Function(status=307)
    with function.served() as to:
        done = dlq(vhost_url, "replay", PLACE, "--to", to, "--limit", "1", code=1)
    assert "0 delivered, 1 left; HTTP 307, a redirect" in done.stdout
    assert waiting(vhost_url) == ["e-0", "e-1"]


def test_wrong_password_is_told_as_a_refusal_without_the_password(vhost_url: str) -> None:
    parts = urlsplit(vhost_url)
    wrong = f"amqp://{parts.username}:hunter2@{parts.hostname}:{parts.port}{parts.path}"
    done = dlq(wrong, "list", PLACE, code=2)
    assert done.stderr.startswith("kn-lambda: error: RabbitMQ refuses")
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stdout + done.stderr


def test_unknown_virtual_host_and_unknown_queue_are_told(vhost_url: str) -> None:
    nowhere = dlq(f"{vhost_url}-not-there", "list", PLACE, code=2)
    assert nowhere.stderr.count("\n") == 1
    assert "not found" in nowhere.stderr
    for arguments in (("show",), ("replay", "--to", "http://127.0.0.1:1/"), ("purge", "--yes")):
        done = dlq(vhost_url, arguments[0], PLACE, *arguments[1:], code=2)
        assert f"{PLACE} has no dead-letter queue" in done.stderr


async def test_names_need_no_cluster_and_piped_output_has_no_colours(vhost_url: str) -> None:
    await fill(vhost_url, 3)
    done = dlq(vhost_url, "list", PLACE, "shop/nobody")
    assert done.stdout.splitlines() == [
        "FUNCTION      WAITING", "shop/orders         3", "shop/nobody  no queue", "catch-all           0"
    ]  # fmt: skip
    assert "name the functions" in dlq(vhost_url, "list", code=2).stderr


async def test_purge_asks_on_a_terminal_and_refuses_without_one(vhost_url: str) -> None:
    await fill(vhost_url, 3)
    assert "give --yes" in dlq(vhost_url, "purge", PLACE, code=2).stderr
    assert on_terminal(vhost_url, "n\n", "purge", PLACE) == (1, "Remove 3 letters of shop/orders for good? [y/N]:")
    assert len(waiting(vhost_url)) == 3
    assert on_terminal(vhost_url, "y\n", "purge", PLACE)[0] == 0
    assert waiting(vhost_url) == []


async def test_terminal_gets_a_progress_bar_and_colours(vhost_url: str) -> None:
    await fill(vhost_url, 3)
    assert "\x1b[33mshop/orders         3" in screen(vhost_url, "list", PLACE)
    assert "\x1b[" not in screen(vhost_url, "list", PLACE, NO_COLOR="1")
    function = Function()
    with function.served() as to:
        shown = screen(vhost_url, "replay", PLACE, "--to", to)
    assert "replaying" in shown
    assert "100%" in shown
    assert "3 delivered, 0 left" in shown


def screen(url: str, *arguments: str, **environment: str) -> str:
    """What a terminal got."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(*arguments), env=os.environ | {"KN_LAMBDA_RABBITMQ": url, "TERM": "xterm", **environment},
        stdin=theirs, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: nobody holds the other end any more
            while part := os.read(ours, 4096):
                shown += part
        os.close(ours)
        assert process.wait(30) == 0, shown
    return shown.decode()


def on_terminal(url: str, answer: str, *arguments: str) -> tuple[int, str]:
    """Exit code and what was asked, where stdin is a terminal at which somebody types that."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode())
        done = subprocess.run(
            command(*arguments), env=os.environ | {"KN_LAMBDA_RABBITMQ": url}, stdin=theirs, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, done.stderr.rstrip()
