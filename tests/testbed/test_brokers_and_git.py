"""RabbitMQ and the git server of the bed: several at once, failures on demand, data that survives."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pika
import pytest

from tests.testbed import processes
from tests.testbed.gitserver import Failure
from tests.testbed.rabbitmq import QUEUES_WRITTEN, RabbitMQBed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.testbed.gitserver import GitServer

# ---- RabbitMQ ----


def publish(url: str, queue: str, body: bytes) -> None:
    """One persistent message into a durable queue."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2))


def take(url: str, queue: str) -> bytes | None:
    """The next message of a queue."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        _, _, body = connection.channel().basic_get(queue, auto_ack=True)
        return bytes(body) if body is not None else None


def test_two_brokers_stand_side_by_side_and_a_killed_one_keeps_its_messages(own_rabbitmq: RabbitMQBed) -> None:
    with RabbitMQBed.start() as other:
        publish(own_rabbitmq.amqp_url, "kept", b"before")
        publish(other.amqp_url, "elsewhere", b"other")

        time.sleep(QUEUES_WRITTEN)
        own_rabbitmq.kill()
        assert not processes.port_open(own_rabbitmq.port)
        assert take(other.amqp_url, "elsewhere") == b"other"
        own_rabbitmq.start_again()

        assert take(own_rabbitmq.amqp_url, "kept") == b"before"
        folder = other.log.parent
    assert processes.processes_of(folder) == [], "its epmd ended with it"


def test_virtual_host_is_a_world_of_its_own(rabbitmq_bed: RabbitMQBed, vhost_url: str) -> None:
    publish(vhost_url, "here", b"x")
    assert [one["name"] for one in rabbitmq_bed.management("GET", "/api/queues/%2F")].count("here") == 0
    assert take(vhost_url, "here") == b"x"


# ---- git ----


def git(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """One git command that never asks and knows no configuration but ours."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}
    named = ["-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    return subprocess.run(
        ["git", *named], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_push_and_clone_over_http(git_server: GitServer, tmp_path: Path) -> None:
    url = git_server.create_repository("team/pushed")
    assert git("clone", url, "work", cwd=tmp_path).returncode == 0
    work = tmp_path / "work"
    (work / "big").write_bytes(os.urandom(3_000_000))  # more than git sends without chunking
    git("add", ".", cwd=work)
    git("commit", "-m", "first", cwd=work)

    pushed = git("push", "origin", "HEAD:main", cwd=work)
    assert pushed.returncode == 0, pushed.stderr
    git("clone", url, "again", cwd=tmp_path)

    assert (tmp_path / "again" / "big").read_bytes() == (work / "big").read_bytes()
    assert git_server.count("info/refs git-receive-pack", "team/pushed") == 1
    assert git_server.errors == []


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Failure.UNAVAILABLE, "503"),
        (Failure.FORBID, "403"),
        (Failure.REFUSE, "Authentication failed"),
        (Failure.CUT, ""),
    ],
)
def test_git_server_fails_on_demand(git_server: GitServer, tmp_path: Path, failure: Failure, told: str) -> None:
    git_server.create_repository(f"bed-failing-{failure}")
    git_server.failure = failure
    asked = git("ls-remote", git_server.url(f"bed-failing-{failure}", user="u", password="p"), cwd=tmp_path)
    assert asked.returncode != 0
    assert told in asked.stderr


def test_hanging_git_server_answers_nothing(git_server: GitServer) -> None:
    git_server.create_repository("hanging")
    git_server.failure = Failure.HANG
    connection = http.client.HTTPConnection(git_server.base_url.removeprefix("http://"), timeout=0.5)
    with contextlib.closing(connection):
        connection.request("GET", "/hanging.git/info/refs?service=git-upload-pack")
        with pytest.raises(TimeoutError):
            connection.getresponse()


def test_expired_password_is_refused(git_server: GitServer, tmp_path: Path) -> None:
    git_server.create_repository("private")
    git_server.require("private", user="bot", password="old")
    url = git_server.url("private", user="bot", password="old")
    assert git("ls-remote", url, cwd=tmp_path).returncode == 0

    git_server.require("private", user="bot", password="new")

    assert "Authentication failed" in git("ls-remote", url, cwd=tmp_path).stderr
    assert git("ls-remote", git_server.url("private", user="bot", password="new"), cwd=tmp_path).returncode == 0
