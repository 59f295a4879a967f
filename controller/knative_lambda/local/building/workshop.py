"""One build on this machine, from the request in a Job to the digest of an image. Blocking; called by builder.

The build context is the very one that Kaniko would get: `sources.context` writes both.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from knative_lambda.api.function import Language
from knative_lambda.api.meta import Key
from knative_lambda.kit import redact
from knative_lambda.kit.clock import Clock
from knative_lambda.local.building import build_log
from knative_lambda.local.building.build_log import BuildLog
from knative_lambda.local.building.commands import CommandFailed, Terms
from knative_lambda.local.building.images import ImageStore, Workspace
from knative_lambda.local.building.toolchains.base import Toolchain, ToolchainMissing
from knative_lambda.resources import build_request
from knative_lambda.resources.build_request import EXIT_REFUSED, BuildRequest, BuildRequestError
from knative_lambda.resources.kaniko_job import CONTEXT_CONTAINER
from knative_lambda.sources import context
from knative_lambda.sources.base import ANONYMOUS, Credentials, FetchLimits, SourceError
from knative_lambda.sources.dial import DialPolicy
from knative_lambda.sources.git import GitFetcher

STORAGE = "storage"
"""Stands where a program's name would, when it was the disk that failed."""


class BuildFailed(Exception):
    """A build that cannot be done; the message is safe to show."""

    def __init__(self, tool: str, code: int, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.tool = tool
        """The program that failed, or the init container's name when it was the source."""
        self.code = code
        self.message = message
        self.retry = retry
        """Whether time may heal it."""


@dataclass(frozen=True, slots=True)
class Order:
    """One build that is wanted."""

    job: Key
    request: str
    """As `build_request.encode` left it."""
    credentials: Credentials = ANONYMOUS
    deadline: float = 0.0
    """Of the clock's monotonic time."""
    stop: threading.Event = field(default_factory=threading.Event)
    remarks: list[str] = field(default_factory=list)
    """Filled by the build: what the function asks for and does not get here."""


class Workshop:
    """For several threads at a time."""

    def __init__(
        self,
        store: ImageStore,
        toolchains: Mapping[Language, Toolchain],
        *,
        policy: DialPolicy,
        logs: Path,
        clock: Clock,
        limits: FetchLimits = FetchLimits(),  # noqa: B008 - frozen
    ) -> None:
        self._store = store
        self._toolchains = dict(toolchains)
        self._fetcher = GitFetcher(policy)
        self._logs = logs
        self._clock = clock
        self._limits = limits

    def log_of(self, job: Key) -> Path:
        """The file with what a Job's programs printed."""
        return build_log.place(self._logs, job)

    def build(self, order: Order) -> str:
        """The image's digest. Raises BuildFailed, Stopped and Expired, after which nothing is left of the build."""
        try:
            with BuildLog(self.log_of(order.job)) as log:
                terms = Terms(log, self._clock, order.deadline, order.stop)
                return self._logged(order, terms)
        except OSError as error:
            raise BuildFailed(STORAGE, 1, _words(error)) from error
        finally:
            build_log.prune(self._logs)

    def close(self) -> None:
        """Ends fetches that run; installers end by their order's `stop`."""
        self._fetcher.close()

    def _logged(self, order: Order, terms: Terms) -> str:
        try:
            with self._store.workspace() as space:
                digest = self._made(order, space, terms)
        except BuildFailed as failure:
            last = failure.message.rpartition("\n")[2]  # what was before it, the program has printed itself
            terms.log.say(f"{failure.tool} ended with {failure.code}: {last}")
            raise
        terms.log.say(f"made {digest}")
        return digest

    def _made(self, order: Order, space: Workspace, terms: Terms) -> str:
        folder = space.folder / "context"
        request = self._laid_out(order, folder, terms)
        terms.check()
        try:
            plan = self._toolchain(request.runtime.language).plan(folder, request.runtime)
            for note in plan.notes:
                terms.log.say(note)
            if request.runtime.version is not None:  # else it is only the default that differs
                order.remarks.extend(plan.notes)
            return space.put(plan, folder, terms)
        except CommandFailed as error:
            raise BuildFailed(error.tool, error.code, redact.text(error.message)) from error

    def _toolchain(self, language: Language) -> Toolchain:
        """A language may have images and no way to run without one."""
        if language not in self._toolchains:
            words = f"functions in {language.value} can only be built in a cluster by this release"
            raise ToolchainMissing(language.value, words)
        return self._toolchains[language]

    def _laid_out(self, order: Order, into: Path, terms: Terms) -> BuildRequest:
        seconds = min(self._limits.seconds, max(1, int(terms.left)))
        limits = dataclasses.replace(self._limits, seconds=seconds)
        try:
            request = build_request.decode(order.request)
            found = context.lay_out(
                request, credentials=order.credentials, into=into, fetcher=self._fetcher, limits=limits
            )
        except BuildRequestError as error:
            raise BuildFailed(CONTEXT_CONTAINER, EXIT_REFUSED, redact.text(str(error))) from error
        except SourceError as error:
            terms.check()  # a fetch that was ended says that it failed
            code = context.exit_code(error)
            raise BuildFailed(CONTEXT_CONTAINER, code, redact.text(error.message), retry=error.retry) from error
        terms.log.say(f"{request.function} at revision {found.revision}")
        return request


def _words(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return redact.text(f"{where}{error.strerror or type(error).__name__}")
