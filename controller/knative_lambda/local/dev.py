"""One process that is a whole platform: the controllers of a cluster, and everything that plays the cluster for them.

Called by `kn-lambda dev`. Only the outermost adapters differ from a cluster's: objects in memory, builds and functions
as processes of this host, a broker in this process, dead letters and accepted events on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pydantic import SecretStr
from starlette.applications import Starlette

from knative_lambda import settings as configuration
from knative_lambda.api import crd, function, kinds, meta
from knative_lambda.api import repository as repositories
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.memory import MemoryCluster, Validator
from knative_lambda.events.sqlite import StateError
from knative_lambda.events.sqlite_letters import SqliteLetters
from knative_lambda.kit.clock import Clock
from knative_lambda.local import gitserve, origin, state
from knative_lambda.local.building.builder import HostBuilder
from knative_lambda.local.building.images import ImageStore, StoreTaken
from knative_lambda.local.heard import Heard, HeardBus, Remark
from knative_lambda.local.kube import kubeaccess
from knative_lambda.local.kube.kubeapi import KubeApi
from knative_lambda.local.messaging.broker import BrokerOptions, LocalBroker
from knative_lambda.local.origin import Origin
from knative_lambda.local.serving.server import ProcessServer, ServerOptions
from knative_lambda.local.worktree import WorkTreeError
from knative_lambda.machinery.process import Service
from knative_lambda.machinery.recorder import Recorder, Regarding
from knative_lambda.machinery.timing import micro_time
from knative_lambda.settings import Settings
from knative_lambda.wiring import adapters, controller, http
from knative_lambda.wiring.controller import Connections, Gate
from knative_lambda.wiring.http import Listener
from knative_lambda.wiring.operations import Operations
from knative_lambda.wiring.ports import Ports

INSTALLED = (
    kinds.NAMESPACE, kinds.SERVICE, kinds.TRIGGER, kinds.BROKER, kinds.RABBITMQ_BROKER_CONFIG,
)  # fmt: skip
VALIDATORS: dict[Kind, Validator] = {
    kinds.LAMBDA_FUNCTION: function.parse,
    kinds.FUNCTION_REPOSITORY: repositories.parse,
}
"""What CEL rules say on a real API server."""
TRY_AGAIN_SECONDS = 1.0
"""After a folder could not be read."""
LOOPBACK_HOST = "127.0.0.1"
LOOPBACK = ("127.0.0.0/8", "::1/128", "localhost")


class DevError(Exception):
    """Local mode cannot start; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person asks of `kn-lambda dev`."""

    place: str
    """A folder of functions, a git repository or a URL."""
    state: Path
    """Everything that is kept from one start to the next."""
    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes any."""
    namespace: str = "default"
    watch: bool | None = None
    """Also what is saved and not committed; None decides by what `place` is."""
    rabbitmq: str = ""
    """URL of a RabbitMQ for the functions' lifecycle events; nobody hears them but the screen when empty."""
    idle_seconds: float | None = None
    """After so long without a request a function has no process any more; None leaves it to the function."""
    backoff_seconds: float = 1.0
    """Base of the pauses between attempts to deliver an event."""
    image_bytes: int = 4 * 2**30
    """What built functions may take on disk."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What a screen may look at."""

    options: Options
    url: str
    """Where functions answer."""
    repository: Key
    cluster: MemoryCluster
    server: ProcessServer
    heard: Heard


Screen = Callable[[Stage], Service]


async def run(options: Options, *, stop: asyncio.Event, screen: Screen) -> None:
    """Until `stop` is set. Raises DevError and OriginError; no process is left behind."""
    options = replace(options, state=options.state.expanduser().absolute())  # git and functions run in other folders
    with _alone(options.state), _listening(options) as sock:
        found = await asyncio.to_thread(origin.of, options.place, state=options.state, watch=options.watch)
        stand_in = _ClusterHere(options, found, sock, screen)
        try:
            await controller.run(_settings(options, stand_in.url), stop=stop, connect=stand_in.connected)
        except (StateError, StoreTaken) as error:
            raise DevError(str(error)) from error


def _settings(options: Options, url: str) -> Settings:
    """Those of a controller that is alone. RabbitMQ's parts stand for the broker in this process."""
    return configuration.only(
        leader_elect=False,
        lease_namespace=options.namespace,
        events="rabbitmq" if options.rabbitmq else "none",
        rabbitmq=SecretStr(options.rabbitmq) if options.rabbitmq else None,
        dead_letters="amqp",
        dead_letter_url=url,
        dead_letter_backoff=options.backoff_seconds,
        create_brokers=True,
        rabbitmq_secret="in-process",  # noqa: S106 - the name of a Secret that nobody reads
        allow_networks=LOOPBACK,
        cache_dir=options.state / "cache",
        http_port=0,
        webhook_port=0,
    )


@dataclass(frozen=True, slots=True)
class _ClusterHere:
    """What was found and bound before a controller can be given its connections."""

    options: Options
    found: Origin
    sock: socket.socket
    """Where functions answer."""
    screen: Screen

    @property
    def port(self) -> int:
        return int(self.sock.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://{_authority(self.options.host, self.port)}"

    @asynccontextmanager
    async def connected(
        self, settings: Settings, clock: Clock, _gate: Gate, operations: Operations
    ) -> AsyncIterator[Connections]:
        """The connections of a controller whose cluster is this process."""
        async with AsyncExitStack() as stack:
            cluster = MemoryCluster(clock=clock, definitions=crd.definitions(), kinds=INSTALLED, validators=VALIDATORS)
            stack.push_async_callback(cluster.close)
            heard = Heard()
            bus = HeardBus(operations.measured(adapters.bus(settings, clock=clock)), heard)
            stack.push_async_callback(bus.close)
            await bus.start()
            checkout = adapters.checkout(settings)
            stack.push_async_callback(checkout.close)
            letters = SqliteLetters(state.letters(self.options.state), clock=clock)
            stack.push_async_callback(letters.close)
            recorder = Recorder(cluster, clock=clock, instance=settings.identity)

            def remark(function: Regarding, words: str) -> None:
                recorder.record(function, type="Warning", reason="OtherVersion", note=words, action="Build")
                heard.tell(Remark(function.key.name, words))

            players = _Players(self, settings, cluster, letters, heard, clock=clock, remark=remark)
            stack.callback(players.images.close)
            stage = Stage(
                self.options, self.url, Key(self.options.namespace, self.found.name), cluster, players.server, heard
            )
            beside = [*players.services(), players.kube_api(stack)]
            beside += [Service("repository", partial(_follow, stage, self.found, clock)), self.screen(stage)]
            if self.options.rabbitmq:
                beside.append(Service("lifecycle events", partial(bus.watch, clock=clock)))
            ports = Ports(cluster=cluster, bus=bus, recorder=recorder, clock=clock, dead_letters=letters)
            yield Connections(ports, cluster, checkout, letters, beside)


class _Players:
    """Builder, process server and broker, and the ports at which all of them are reached."""

    def __init__(
        self,
        here: _ClusterHere,
        settings: Settings,
        cluster: MemoryCluster,
        letters: SqliteLetters,
        heard: Heard,
        *,
        clock: Clock,
        remark: Callable[[Regarding, str], None],
    ) -> None:
        self._here, self._cluster, self._clock = here, cluster, clock
        options = here.options
        self.images = ImageStore(options.state / "images", limit_bytes=options.image_bytes)
        policy, logs = adapters.dial_policy(settings), state.build_logs(options.state)
        asked = ServerOptions(host=options.host, port=here.port, idle_seconds=options.idle_seconds)
        folder = state.processes(options.state)
        self.server = ProcessServer(
            cluster,
            self.images.find,
            clock=clock,
            state=folder,
            options=asked,
            remark=lambda words: heard.tell(Remark("", words)),
        )
        self.builder = HostBuilder(
            cluster, self.images, clock=clock, state=logs, policy=policy, in_use=self.server.images, remark=remark
        )
        self.broker = LocalBroker(
            cluster,
            self.server.call,
            letters,
            options.state / "events.db",
            clock=clock,
            options=BrokerOptions(url=here.url),
            told=heard.tell,
        )

    def services(self) -> list[Service]:
        """What plays the cluster. Functions come first among the routes: under their own Host they have every path."""
        here = self._here
        git = gitserve.routes(here.found.git_dir) if here.found.git_dir else []
        app = Starlette(routes=[*self.server.routes(), *git, *self.broker.routes()])
        listener = Listener("functions", here.options.host, here.port)
        listening = Service("http functions", partial(http.serve, listener, app, here.sock), patience=20.0)
        return [*self.builder.services(), *self.server.services(), *self.broker.services(), listening]

    def kube_api(self, stack: AsyncExitStack) -> Service:
        """The Kubernetes API of the objects in memory, and the kubeconfig that leads there while it is up."""
        access = kubeaccess.create(self._here.options.state / "api", clock=self._clock)
        sock = socket.create_server((LOOPBACK_HOST, 0))
        port = sock.getsockname()[1]
        text = kubeaccess.kubeconfig(f"https://{LOOPBACK_HOST}:{port}", access, namespace=self._here.options.namespace)
        file = self._here.options.state / state.KUBECONFIG
        kubeaccess.write_private(file, text.encode())
        stack.callback(file.unlink, missing_ok=True)
        api = KubeApi(self._cluster, access, clock=self._clock)
        listener = Listener("objects", LOOPBACK_HOST, port, certificate=access.certificate, key=access.key)
        return Service("http objects", partial(api.serve, listener, sock), patience=20.0)


async def _follow(stage: Stage, found: Origin, clock: Clock) -> None:
    """Makes the FunctionRepository, and asks gitsync to look whenever there is another commit."""
    async with origin.changes(found) as changed:
        last = await _newest(stage, found, clock)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": stage.options.namespace}}
        await stage.cluster.apply(kinds.NAMESPACE, namespace)
        await stage.cluster.apply(kinds.FUNCTION_REPOSITORY, _repository(stage, found))
        while True:
            await origin.settled(changed)
            newest = await _newest(stage, found, clock)
            if newest != last or found.worktree is None:
                last = newest
                stamp = {"annotations": {meta.ANNOTATION_RECONCILE: micro_time(clock.now())}}
                await stage.cluster.patch(kinds.FUNCTION_REPOSITORY, stage.repository, {"metadata": stamp})


async def _newest(stage: Stage, found: Origin, clock: Clock) -> str:
    """The commit of what is saved; empty where somebody else commits. What cannot be read is told once, and waited for.

    A file went while it was looked at, or cannot be read: what was there before goes on meanwhile.
    """
    told = ""
    while found.worktree is not None:
        try:
            return await asyncio.to_thread(found.worktree.commit)
        except WorkTreeError as error:
            if str(error) != told:
                told = str(error)
                stage.heard.tell(Remark("", told))
            await clock.sleep(TRY_AGAIN_SECONDS)
    return ""


def _repository(stage: Stage, found: Origin) -> dict[str, object]:
    spec = {
        "url": found.url or f"{stage.url}/git/repository",
        "interval": "10s" if found.url else "1h",
        **({"ref": {"branch": found.branch}} if found.branch else {}),
        **({"path": found.path} if found.path else {}),
    }
    return {
        "apiVersion": meta.API_VERSION,
        "kind": kinds.FUNCTION_REPOSITORY.kind,
        "metadata": {"name": stage.repository.name, "namespace": stage.repository.namespace},
        "spec": spec,
    }


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def _listening(options: Options) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        sock = socket.create_server((options.host, options.port), family=family)
    except OSError as error:
        where = f"{options.host} port {options.port}"
        raise DevError(f"cannot listen on {where}: {error.strerror}; choose another with --port") from error
    with sock:
        yield sock


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process per state folder."""
    try:
        lock = state.hold(folder)
    except state.Held as error:
        raise DevError(f"{error}: end it, or choose another folder with --state-dir") from error
    try:
        yield
    finally:
        os.close(lock)
