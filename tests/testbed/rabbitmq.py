"""A real RabbitMQ as a plain process: own folder, own node, own epmd, loopback ports; several side by side.

Found in this order: a running one at `$KNATIVE_LAMBDA_TEST_RABBITMQ` (an amqp URL), `rabbitmq-server` of this
machine, Debian's package when we are root. Called by fixtures, benchmarks and the command line of the bed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.testbed import assets, processes
from tests.testbed.errors import BedError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNNING_ONE = "KNATIVE_LAMBDA_TEST_RABBITMQ"
"""Environment variable: amqp URL of a RabbitMQ to use instead of starting one."""

MANAGEMENT_OF_RUNNING_ONE = "KNATIVE_LAMBDA_TEST_RABBITMQ_MANAGEMENT"
"""Environment variable: its management URL; without it, port 15672 of the same host is taken."""

_DEBIAN_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one in /usr/sbin changes the user
_POLICY = Path("/usr/sbin/policy-rc.d")
_START_SECONDS = 90.0
_USER = "bed"

QUEUES_WRITTEN = 2.5
"""Seconds within which RabbitMQ has written down that a queue was declared; killed before, it forgets the queue."""


class RabbitMQBed:
    """One broker. Made by `start`, ended by `stop`.

    `amqp_url` (default virtual host) and `management_url` are without secrets of anybody: user and password
    were made for this broker alone. `own` is False for a running one that we were given, which can be used
    but not killed, stopped or restarted.
    """

    def __init__(self, *, amqp_url: str, management_url: str, run: processes.Run | None = None) -> None:
        parts = urllib.parse.urlsplit(amqp_url)
        self.amqp_url = amqp_url
        self.management_url = management_url.rstrip("/")
        self.user = urllib.parse.unquote(parts.username or "guest")
        self.password = urllib.parse.unquote(parts.password or "guest")
        self.port = parts.port or 5672
        self._run = run
        self._server: processes.Server | None = None
        self._epmd_port = 0
        self._dist_port = 0

    @classmethod
    def start(cls, *, run: processes.Run | None = None) -> RabbitMQBed:
        """Start a broker of our own and wait until it serves (6-8 s). Raises Unavailable without RabbitMQ."""
        script = _script()
        own = run or processes.Run.begin("rabbitmq")
        amqp, management = processes.free_port(), processes.free_port()
        bed = cls(
            amqp_url=f"amqp://{_USER}:{secrets.token_hex(12)}@127.0.0.1:{amqp}/%2F",
            management_url=f"http://127.0.0.1:{management}",
            run=own,
        )
        try:
            bed._prepare(management)
            bed._launch(script)
        except BaseException:
            bed.stop()
            raise
        return bed

    @classmethod
    def shared(cls) -> RabbitMQBed:
        """The running one that the environment names, else one of our own."""
        given = os.environ.get(RUNNING_ONE)
        if not given:
            return cls.start()
        host = urllib.parse.urlsplit(given).hostname
        return cls(amqp_url=given, management_url=os.environ.get(MANAGEMENT_OF_RUNNING_ONE) or f"http://{host}:15672")

    def __enter__(self) -> RabbitMQBed:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def own(self) -> bool:
        """Whether we started it and may end it."""
        return self._run is not None

    @property
    def log(self) -> Path:
        """Its log file."""
        return self._owned().folder / f"{self._name}.log"

    def stop(self) -> None:
        """End it with its epmd and its data; nothing happens to one that we were given."""
        if self._run is not None:
            self._run.end()

    def kill(self) -> None:
        """SIGKILL, as a crash: connections break, ports refuse. Data stays for `start_again`."""
        self._owned()
        if self._server is not None:
            self._server.kill()
            processes.wait_until(lambda: not processes.port_open(self.port), what="RabbitMQ's port closed", timeout=10)

    def shut_down(self) -> None:
        """An orderly stop that closes connections by protocol. Data stays for `start_again`."""
        self._owned()
        if self._server is not None:
            self._server.stop(grace=30)

    def start_again(self) -> float:
        """Start it on the same ports and data; returns the seconds until it served."""
        began = time.monotonic()
        self._owned()
        self._launch(_script())
        return time.monotonic() - began

    def restart(self) -> float:
        """An orderly stop and a start on the same ports and data; returns the seconds away."""
        began = time.monotonic()
        self.shut_down()
        self.start_again()
        return time.monotonic() - began

    def create_vhost(self, name: str) -> str:
        """A virtual host of a test's own, with policies and queues of its own; returns its amqp URL."""
        quoted = urllib.parse.quote(name, safe="")
        self.management("PUT", f"/api/vhosts/{quoted}")
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.management("PUT", f"/api/permissions/{quoted}/{urllib.parse.quote(self.user, safe='')}", everything)
        return f"{self.amqp_url.rpartition('/')[0]}/{quoted}"

    def delete_vhost(self, name: str) -> None:
        """Remove a virtual host with all that is in it."""
        self.management("DELETE", f"/api/vhosts/{urllib.parse.quote(name, safe='')}")

    def management(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the management API; returns the decoded answer, raises BedError on a refusal."""
        request = urllib.request.Request(
            self.management_url + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json", "Authorization": self._basic()},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                answer = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise BedError(f"{method} {path}: {error.code} {error.read()[:300]!r}") from None
        return json.loads(answer) if answer else None

    # ---- inside ----

    @property
    def _name(self) -> str:
        return f"rabbitmq-{self.port}"

    @property
    def _folder(self) -> Path:
        return self._owned().directory(self._name)

    def _owned(self) -> processes.Run:
        if self._run is None:
            raise Unavailable(f"the RabbitMQ of ${RUNNING_ONE} is not ours to stop or to look into")
        return self._run

    def _basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def _prepare(self, management_port: int) -> None:
        self._epmd_port, self._dist_port = processes.free_port(), processes.free_port()
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\n"
            "management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {management_port}\n"
            f"default_user = {self.user}\n"
            f"default_pass = {self.password}\n"
            "loopback_users.guest = true\n"
            "disk_free_limit.absolute = 50MB\n"
            "collect_statistics_interval = 1000\n"
            "log.console = true\n"
            "log.console.level = info\n"
            "log.file = false\n"
        )
        (self._folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        epmd = self._owned().start(
            f"epmd-{self._epmd_port}", ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"]
        )
        epmd.await_ready(lambda: processes.port_open(self._epmd_port), timeout=15)

    def _launch(self, script: Path) -> None:
        self._server = self._owned().start(self._name, [script], env=self._environment(), cwd=self._folder)
        self._server.await_ready(self._serves, timeout=_START_SECONDS)

    def _environment(self) -> dict[str, str]:
        folder = self._folder
        return {
            "HOME": str(folder),
            "RABBITMQ_NODENAME": "bed@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} "  # else node traffic listens on every address
                "+sbwt none +sbwtdcpu none +sbwtdio none"  # else idle schedulers spin on the tests' cores
            ),
        }

    def _serves(self) -> bool:
        try:
            self.management("GET", "/api/overview")
        except (BedError, OSError, ValueError):
            return False
        return processes.port_open(self.port)


def _script() -> Path:
    """The start script that does not change the user; installs Debian's package when we are root."""
    found = _find_script()
    if found is None and _install():
        found = _find_script()
    if found is None:
        raise Unavailable(
            f"no rabbitmq-server here: install RabbitMQ, or set {RUNNING_ONE} to the amqp URL of a running one"
        )
    return found


def _find_script() -> Path | None:
    if _DEBIAN_SCRIPT.exists():
        return _DEBIAN_SCRIPT
    named = shutil.which("rabbitmq-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return Path(named) if named else None


def _install() -> bool:
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        return False
    with assets.locked("rabbitmq"), _services_kept_stopped():
        if _find_script() is not None:
            return True
        began = time.monotonic()
        assets.say("installing rabbitmq-server from the system's package sources")
        if not _apt("install", "-y", "--no-install-recommends", "rabbitmq-server"):
            assets.say("no luck with the package lists at hand: refreshing them first")
            if not (_apt("update") and _apt("install", "-y", "--no-install-recommends", "rabbitmq-server")):
                return False
        assets.say(f"installed rabbitmq-server in {time.monotonic() - began:.0f} s")
    return True


def _apt(*arguments: str) -> bool:
    done = subprocess.run(
        ["apt-get", "-q", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        assets.say(f"apt-get {arguments[0]} ended with {done.returncode}: {done.stderr[-300:].strip()}")
    return done.returncode == 0


@contextlib.contextmanager
def _services_kept_stopped() -> Iterator[None]:
    """Keep the package from starting a broker of its own; a policy that is there already stays as it is."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
