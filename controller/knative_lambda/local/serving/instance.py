"""One instance of a revision: from the image to a process that listens, and to its end. Called by pool.

A process is proven by a connection to its port, which is what the Service's readiness probe asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Cluster, ClusterError
from knative_lambda.kit import redact
from knative_lambda.local.building.images import LocalImage
from knative_lambda.local.serving import limits, processes, processors, variables
from knative_lambda.local.serving.instance_log import InstanceLog
from knative_lambda.local.serving.ports import Ports
from knative_lambda.local.serving.processes import Child, Launch
from knative_lambda.local.serving.processors import ALL, Part, Processors
from knative_lambda.local.serving.revisions import Template
from knative_lambda.local.serving.serving_options import ServerOptions
from knative_lambda.local.serving.users import OURS, Users

log = structlog.get_logger(__name__)

PROBE_FAST, PROBE_SLOW = 0.005, 0.05
"""Seconds between probes, at first and later: a cold start must not wait for us, a slow one must not cost much."""
FAST_PROBES = 200
TURN_SECONDS = 3.0
"""After so long a start holds up nobody else; most of its work is done, or never will be."""
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm")
"""Of /dev, what programs write to; the others, such as disks, are nobody's business."""
SHARED = ("/tmp", *(f"/dev/{name}" for name in DEVICES))  # noqa: S108 - many programs name it, in a pod it is their own
"""Folders and files that are everybody's."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A template with a name of its own."""

    service: Key
    name: str
    template: Template


class StartFailed(Exception):
    """An instance that could not be brought up; the text is safe to show, and in Knative's words."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one instance lives, and as whom."""

    name: str
    folder: Path
    port: int
    user: int
    processors: Part = ALL


class Instance:
    """A process that listens. `in_flight` and `draining` are kept by its pool."""

    def __init__(self, place: Place, child: Child, output: InstanceLog, bounds: limits.Limits) -> None:
        self.place = place
        self.child = child
        self.output = output
        self.limits = bounds
        self.in_flight = 0
        self.draining = False
        self.verdict = ""
        """Why this program ended it, if it did."""
        self._quiet = asyncio.Event()
        self._quiet.set()

    def take(self) -> None:
        """One request more."""
        self.in_flight += 1
        self._quiet.clear()

    def give_back(self) -> None:
        """One request less."""
        self.in_flight -= 1
        if self.in_flight == 0:
            self._quiet.set()

    async def quiet(self) -> None:
        """Until no request runs."""
        await self._quiet.wait()

    def condemn(self, verdict: str) -> None:
        """Ends it for taking too much; its pool hears of its end as of any other. Its log tells the person."""
        self.verdict = verdict
        self.output.write(f"\n{verdict}\n".encode())
        self.child.strike()

    def epitaph(self) -> str:
        """How it ended and what it said last."""
        how = self.verdict or _described(self.child.exit_code or 0)
        said = self.output.tail()
        return f"{how}: {said}" if said and not self.verdict else how


class Starting(Protocol):
    """What a pool needs of a Starter."""

    async def start(self, revision: Revision) -> Instance:
        """A process that listens. Raises StartFailed."""
        ...

    async def stop(self, instance: Instance) -> None:
        """Ends the process, however it takes it, and forgets its folder."""
        ...


class Starter:
    """Makes instances on this machine, a few at a time."""

    def __init__(
        self,
        cluster: Cluster,
        find: Callable[[str], LocalImage | None],
        *,
        state: Path,
        options: ServerOptions,
        remark: Callable[[str], None],
    ) -> None:
        """`state` is absolute: the folders of instances are known by their names. `remark` is for a person."""
        self._instances = state / "instances"
        self._logs = state / "logs"
        self._cluster = cluster
        self._find = find
        self._options = options
        self._ports = Ports()
        self._users = Users(state, remark=remark)
        self._processors = Processors(processors.ours())
        self._turns = asyncio.Semaphore(options.starts)
        self.running: dict[int, Instance] = {}
        """By the pid of its first process."""

    async def start(self, revision: Revision) -> Instance:
        """See Starting."""
        image = self._find(revision.template.image)
        if image is None:
            raise StartFailed(
                f'Unable to fetch image "{revision.template.image}": not found among the images built here'
            )
        values = await self._values(revision)
        async with _turn(self._turns):
            place = await self._place(revision, image)
            try:
                return await self._begin(revision, image, place, values)
            except BaseException:
                await asyncio.shield(self._leave(place))
                raise

    async def stop(self, instance: Instance) -> None:
        """See Starting."""
        await instance.child.end(self._options.stop_seconds)
        self._unlist(instance)
        await self._leave(instance.place)

    async def _values(self, revision: Revision) -> dict[str, str]:
        try:
            return await variables.resolve(self._cluster, revision.service.namespace, revision.template.variables)
        except variables.ConfigurationError as error:
            raise StartFailed(f"CreateContainerConfigError: {error}") from error
        except ClusterError as error:
            raise StartFailed(f"CreateContainerConfigError: {redact.text(error.message)}") from error

    async def _place(self, revision: Revision, image: LocalImage) -> Place:
        """Waits for the user only, before anything is taken: who is cancelled there has nothing to give back."""
        name, user = f"{revision.name}-{_suffix()}", OURS
        try:
            user = await self._users.take(image)
            port = self._ports.take()
        except OSError as error:
            self._users.give_back(user)
            raise StartFailed(f"Container failed with: {error}") from error
        return Place(name, self._instances / name, port, user, self._processors.take(revision.template.processors))

    async def _begin(self, revision: Revision, image: LocalImage, place: Place, values: Mapping[str, str]) -> Instance:
        launch = await self._launch(revision, image, place, values)
        output = self._log(revision, place.name)
        try:
            await _to_its_end(processes.make_folder, place.folder, user=place.user)
            child = await processes.spawn(launch, home=place.folder / "home", output=output.write)
        except OSError as error:
            raise StartFailed(f"Container failed with: it cannot be started: {error.strerror}") from error
        instance = Instance(place, child, output, launch.limits)
        self.running[child.pid] = instance
        try:
            await _to_its_end(processes.record, place.folder, child.pid, launch.limits)
            await self._prove(instance)
        except BaseException:
            await asyncio.shield(self._abandon(instance))
            raise
        return instance

    async def _launch(self, revision: Revision, image: LocalImage, place: Place, values: Mapping[str, str]) -> Launch:
        identity = variables.Identity(revision.service.name, revision.name, place.port)
        others = await self._users.others(place.user)
        return Launch(
            command=image.command,
            environment=variables.environment(identity, image=image.env, function=values, folder=place.folder),
            folder=_working_folder(image.folder),
            limits=limits.of(
                revision.template,
                tasks=self._options.tasks,
                others=others,
                user=place.user,
                port=place.port,
                processors=place.processors,
            ),
            writable=(str(place.folder / "home"), str(place.folder / "tmp"), *SHARED),
        )

    def _log(self, revision: Revision, name: str) -> InstanceLog:
        folder = self._logs / revision.service.namespace / revision.service.name
        _keep_newest(folder, self._options.logs)
        return InstanceLog(folder / f"{name}.log", limit=self._options.log_bytes)

    async def _prove(self, instance: Instance) -> None:
        """Raises StartFailed when the process ends, or does not listen in time."""
        listening = asyncio.create_task(_listens(instance.place.port))
        ending = asyncio.create_task(instance.child.wait())
        try:
            await asyncio.wait(
                {listening, ending}, timeout=self._options.start_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            listening.cancel()
            ending.cancel()
        if instance.child.exit_code is not None or ending.done():
            await instance.child.wait()
            raise StartFailed(f"Container failed with: {instance.epitaph()}")
        if not listening.done() or listening.cancelled():
            raise StartFailed(self._silence(instance))

    def _silence(self, instance: Instance) -> str:
        waited = f"nothing listened on 127.0.0.1:$PORT within {self._options.start_seconds:g} s"
        said = instance.output.tail()
        return f"Initial scale was never achieved: {waited}" + (f"; it printed: {said}" if said else "")

    async def _abandon(self, instance: Instance) -> None:
        await instance.child.kill()
        self._unlist(instance)

    def _unlist(self, instance: Instance) -> None:
        self.running.pop(instance.child.pid, None)
        instance.output.close()

    async def _leave(self, place: Place) -> None:
        try:
            await asyncio.to_thread(processes.remove_folder, place.folder)
        finally:
            self._ports.give_back(place.port)
            self._users.give_back(place.user)
            self._processors.give_back(place.processors)


@contextlib.asynccontextmanager
async def _turn(turns: asyncio.Semaphore) -> AsyncIterator[None]:
    """One of the starts at once; for a while only, or functions that never listen would keep all others from it."""
    await turns.acquire()
    held = True

    def let_go() -> None:
        nonlocal held
        if held:
            held = False
            turns.release()

    timer = asyncio.get_running_loop().call_later(TURN_SECONDS, let_go)
    try:
        yield
    finally:
        timer.cancel()
        let_go()


async def _to_its_end(work: Callable[..., None], *arguments: object, **named: object) -> None:
    """In a thread, which cannot be cancelled: who is cancelled meanwhile goes on when it is over, and may clean up."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise


async def _listens(port: int) -> None:
    """Returns once a connection to the port is taken."""
    loop = asyncio.get_running_loop()
    for probe in range(1_000_000):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, ("127.0.0.1", port))
            except OSError:
                await asyncio.sleep(PROBE_FAST if probe < FAST_PROBES else PROBE_SLOW)
            else:
                return


def _described(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def _suffix() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(5))


def _keep_newest(folder: Path, count: int) -> None:
    """Leaves room for one log more."""
    if not folder.is_dir():
        return
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in logs[count - 1 :]:
        old.unlink(missing_ok=True)
        old.with_name(f"{old.name}.1").unlink(missing_ok=True)


def _working_folder(image: Path) -> Path:
    """Images are entered in the function's own folder, see the Dockerfiles of runtimes."""
    inner = image / "function"
    return inner if inner.is_dir() else image
