"""The host builder: plays Job controller, kubelet and Kaniko for build Jobs, on this machine and with no container.

It watches Jobs as a cluster's own controllers do, and what it writes is what those would write. Wired by dev.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import structlog

from knative_lambda.api import kinds
from knative_lambda.api.function import Language
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import AlreadyExists, Cluster, KindNotInstalled, NotFound, Object, Selection
from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import Clock
from knative_lambda.local.building import build_job, commands
from knative_lambda.local.building.build_job import BuildJob, End
from knative_lambda.local.building.commands import Expired, Stopped
from knative_lambda.local.building.images import ImageStore
from knative_lambda.local.building.toolchains import machine
from knative_lambda.local.building.toolchains.base import Toolchain
from knative_lambda.local.building.workshop import BuildFailed, Order, Workshop
from knative_lambda.machinery.informer import Informer
from knative_lambda.machinery.process import Service
from knative_lambda.machinery.queue import WorkQueue
from knative_lambda.machinery.recorder import Regarding
from knative_lambda.machinery.runner import Requeue, Runner
from knative_lambda.resources import child
from knative_lambda.resources.build_request import EXIT_REFUSED
from knative_lambda.resources.kaniko_job import CONTEXT_CONTAINER
from knative_lambda.sources.base import ANONYMOUS, Credentials
from knative_lambda.sources.dial import DialPolicy

WORKERS = 2
"""Builds at once."""
RETRIES = Backoff(base=2.0, cap=60.0)
"""Between attempts at a source that could not be reached."""
LONGEST = 7 * 3600.0
"""Above the longest build.timeout: the Job's own deadline ends a build."""
GRACE = 1.0
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Attempts:
    """What is known of a Job that is not over."""

    began: float
    stop: threading.Event = field(default_factory=threading.Event)
    failed: int = 0


class HostBuilder:
    """Belongs to the loop's thread; builds run in threads of its own."""

    def __init__(
        self,
        cluster: Cluster,
        images: ImageStore,
        *,
        clock: Clock,
        state: Path,
        policy: DialPolicy,
        toolchains: Callable[[Mapping[str, str]], Mapping[Language, Toolchain]] = machine.toolchains,
        in_use: Callable[[], Collection[str]] = tuple,
        remark: Callable[[Regarding, str], None] = lambda _function, _words: None,
    ) -> None:
        """`state` is the folder of the logs; `toolchains` makes those of an installer's environment.

        `remark` is told what a function asks for and does not get here, in the loop's thread.
        `in_use` gives references of images that run, whatever the Knative Services name: a revision may fail for days
        while the one before it goes on.
        """
        installers = toolchains(commands.cleaned(os.environ))
        self._images = images
        self._in_use, self._remark = in_use, remark
        self._workshop = Workshop(images, installers, policy=policy, logs=state, clock=clock)
        self._cluster = cluster
        self._clock = clock
        self._attempts: dict[str, _Attempts] = {}
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="build")
        self._queue: WorkQueue[Key] = WorkQueue(clock=clock)
        selections = (Selection(labels=child.BUILD_SELECTOR),)
        self._jobs = Informer(cluster, kinds.JOB, build_job.project, clock=clock, selections=selections)
        self._jobs.on_change(self._changed)
        self._runner = Runner(
            "host builder",
            self._queue,
            self._reconcile,
            clock=clock,
            workers=WORKERS,
            grace=GRACE,
            timeout=LONGEST,
        )

    def services(self) -> list[Service]:
        """What runs until it is cancelled; no program of a build is left after the drain."""
        return [
            Service("host builder's Jobs", self._jobs.run),
            Service("host builder", self._runner.run, drain=self._drain),
        ]

    def log_of(self, job: Key) -> Path:
        """The file with what that Job's programs printed."""
        return self._workshop.log_of(job)

    async def _drain(self) -> None:
        for attempts in self._attempts.values():
            attempts.stop.set()
        self._workshop.close()
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)

    def _changed(self, key: Key, old: BuildJob | None, new: BuildJob | None) -> None:
        """A Job that is on its way out, or that another one replaces, is not worth finishing."""
        if old is not None and (new is None or new.deleting or new.uid != old.uid):
            gone = self._attempts.pop(old.uid, None)
            if gone is not None:
                gone.stop.set()
        if new is not None and not new.deleting:
            self._queue.add(key)

    async def _reconcile(self, key: Key) -> Requeue | None:
        job = self._jobs.store.get(key)
        if job is None or job.deleting:
            return None
        if job.ended is not None:
            return await self._expire(job)
        attempts = self._attempts.setdefault(job.uid, _Attempts(self._clock.monotonic()))
        try:
            end = await self._end_of(job, attempts)
        except Stopped:
            return None
        except BuildFailed as failure:  # trouble that may pass
            attempts.failed += 1
            wait = RETRIES.delay(attempts.failed - 1)
            log.warning("build will be tried again", job=str(key), error=failure.message, again_in=round(wait, 1))
            return Requeue(wait)
        await self._tell(job, end)
        self._attempts.pop(job.uid, None)
        await self._evict()
        return None

    async def _end_of(self, job: BuildJob, attempts: _Attempts) -> End:
        """Raises Stopped, and BuildFailed when another attempt may help."""
        try:
            return End.built(await self._built(job, attempts))
        except Expired:
            return End.expired()
        except BuildFailed as failure:
            if failure.retry and attempts.failed < job.retries:
                raise
            log.info("build failed", job=str(job.key), tool=failure.tool, code=failure.code)
            return End.failed(failure.tool, failure.code, failure.message)

    async def _built(self, job: BuildJob, attempts: _Attempts) -> str:
        order = Order(
            job=job.key,
            request=job.request,
            credentials=await self._credentials(job),
            deadline=attempts.began + job.seconds,
            stop=attempts.stop,
        )
        try:
            image = await asyncio.get_running_loop().run_in_executor(self._pool, self._workshop.build, order)
        except asyncio.CancelledError:
            order.stop.set()  # the thread looks at it, for it cannot be cancelled
            raise
        for words in order.remarks:
            self._remark(job.function, words)
        return image

    async def _credentials(self, job: BuildJob) -> Credentials:
        if not job.secret:
            return ANONYMOUS
        try:
            secret = await self._cluster.get(kinds.SECRET, Key(job.key.namespace, job.secret))
            return Credentials(_values(secret))
        except NotFound as error:
            words = f"the Secret {job.secret} of the source is not there"
            raise BuildFailed(CONTEXT_CONTAINER, EXIT_REFUSED, words) from error
        except (binascii.Error, UnicodeDecodeError) as error:
            words = f"the Secret {job.secret} of the source cannot be read: {type(error).__name__}"
            raise BuildFailed(CONTEXT_CONTAINER, EXIT_REFUSED, words) from error

    # ---- what a cluster's own controllers would write ----

    async def _tell(self, job: BuildJob, end: End) -> None:
        """The Pod first: whoever sees the Job end looks for what its Pod said. A Job that is gone needs neither."""
        now = self._clock.now()
        try:
            await self._cluster.create(kinds.POD, build_job.pod(job))
        except AlreadyExists:
            log.debug("the pod is there already", job=str(job.key))
        key = Key(job.key.namespace, job.pod_name())
        try:
            await self._patch(kinds.POD, key, build_job.pod_status(end, now))
            await self._patch(kinds.JOB, job.key, build_job.job_status(end, now))
        except NotFound:
            log.debug("the job went while it was built", job=str(job.key))

    async def _patch(self, kind: Kind, key: Key, status: Object) -> None:
        await self._cluster.patch(kind, key, {"status": status}, subresource="status")

    async def _expire(self, job: BuildJob) -> Requeue | None:
        """Deletes a Job some time after its end, as ttlSecondsAfterFinished asks."""
        assert job.ended is not None
        left = (job.ended + timedelta(seconds=job.ttl) - self._clock.now()).total_seconds()
        if left > 0:
            return Requeue(left)
        try:
            await self._cluster.delete(kinds.JOB, job.key, uid=job.uid)
        except NotFound:
            log.debug("the job is gone already", job=str(job.key))
        return None

    async def _evict(self) -> None:
        """After every build, for that is when the store grows; what Knative Services run stays."""
        try:
            running = [image async for image in _images(self._cluster)]
        except KindNotInstalled:
            running = []
        await asyncio.to_thread(self._images.evict, [*running, *self._in_use()])


async def _images(cluster: Cluster) -> AsyncIterator[str]:
    """What Knative Services run, and their revisions with them."""
    token = ""
    while True:
        page = await cluster.list(kinds.SERVICE, continue_token=token)
        for service in page.items:
            pod = service.get("spec", {}).get("template", {}).get("spec", {})
            for container in pod.get("containers", []):
                yield container.get("image", "")
        token = page.continue_token
        if not token:
            return


def _values(secret: Object) -> dict[str, str]:
    plain = {key: base64.b64decode(value, validate=True).decode() for key, value in secret.get("data", {}).items()}
    return {**plain, **secret.get("stringData", {})}
