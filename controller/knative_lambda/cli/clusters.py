"""Which cluster a command speaks to: the one of a kubeconfig, or a local mode. Called by the commands of functions.

Local mode serves the same API and writes a kubeconfig into its state folder, so from there on both are one.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from knative_lambda.cli import kubeconfig as config
from knative_lambda.cli.failures import Fault

if TYPE_CHECKING:
    from knative_lambda.cluster.kube import KubeCluster
    from knative_lambda.cluster.transport import Endpoint

T = TypeVar("T")

Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace; the context's own when not given.")
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Cluster to ask; by default $KUBECONFIG or ~/.kube/config, else local mode."),
]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig.")]
Local = Annotated[bool, typer.Option("--local", help="The local mode that runs (kn-lambda dev).")]
StateDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The local mode with this state folder, when several run.")
]

GOODBYE_SECONDS = 0.25
"""For the TLS connections of work that was given up, which take a round trip to close."""
LOOK_SECONDS = 1.0
"""Between looks whether local mode still runs."""
_POD = "KUBERNETES_SERVICE_HOST"
_DEFAULT_ONE = "local mode runs with a default state folder: give --state-dir DIR for another one"


@dataclass(frozen=True, slots=True)
class Site:
    """Where functions live."""

    kubeconfig: Path | None = None
    """None is what kubectl would take."""
    context: str | None = None
    state: Path | None = None
    """Folder of the local mode, if it is one."""

    def namespace(self, given: str | None) -> str:
        """The namespace that was given, or the context's own. Raises Fault when the kubeconfig is none."""
        return given or config.namespace(self.kubeconfig, self.context)

    def ask(self, question: Callable[[KubeCluster], Awaitable[T]]) -> T:
        """The answer. Raises what the question raises, and ClusterError when the cluster does not answer."""
        return asyncio.run(self._asked(question))

    async def _asked(self, question: Callable[[KubeCluster], Awaitable[T]]) -> T:
        from knative_lambda.kit import logging

        with logging.silenced():
            cluster = await self._connected()
            try:
                return await self._while_it_runs(question(cluster))
            finally:
                await cluster.close()

    async def _while_it_runs(self, work: Awaitable[T]) -> T:
        """The work's result. A local mode that has ended never comes back at its address: who follows it is told."""
        if self.state is None:
            return await work
        working = asyncio.ensure_future(work)
        try:
            while not working.done():
                await asyncio.wait({working}, timeout=LOOK_SECONDS)
                if not working.done() and not _is_held(self.state):
                    raise Fault(f"the local mode with the state folder {self.state} has ended")
            return working.result()
        finally:
            if working.cancel():
                await asyncio.gather(working, return_exceptions=True)
                await asyncio.sleep(GOODBYE_SECONDS)

    async def _connected(self) -> KubeCluster:
        from knative_lambda.cluster.kube import KubeCluster
        from knative_lambda.kit.clock import SystemClock

        if self.state is not None and self.kubeconfig is not None and self.context is None:
            return KubeCluster(_endpoint(self.kubeconfig), clock=SystemClock())
        return await KubeCluster.connect(clock=SystemClock(), kubeconfig=self.kubeconfig, context=self.context)


def choose(
    kubeconfig: Path | None = None, context: str | None = None, *, local: bool = False, state_dir: Path | None = None
) -> Site:
    """The place that the options name, else the one that is there. Raises Fault, which says what can be named."""
    if (local or state_dir) and (kubeconfig or context):
        raise Fault("--local and --state-dir are a local mode, --kubeconfig and --context a cluster: name one of them")
    if state_dir:
        return _of_state(state_dir)
    if local:
        return _only_one(otherwise=f"no {_DEFAULT_ONE}, or start one with kn-lambda dev REPO")
    if kubeconfig or context:
        return Site(kubeconfig, context, _state_of(kubeconfig))
    files = config.files(None)
    if files:
        folder = _state_of(files[0]) if len(files) == 1 else None
        return Site(files[0], None, folder) if folder else Site()
    if os.environ.get(_POD):
        return Site()
    return _only_one(
        otherwise=f"no kubeconfig at $KUBECONFIG or ~/.kube/config, and no {_DEFAULT_ONE}, or --kubeconfig FILE for a"
        " cluster, or start one with kn-lambda dev REPO"
    )


def _only_one(*, otherwise: str) -> Site:
    from knative_lambda.local import state

    found = state.running()
    if not found:
        raise Fault(otherwise)
    if len(found) > 1:
        shown = ", ".join(str(one) for one in found)
        raise Fault(f"{len(found)} local modes run; name one with --state-dir: {shown}")
    return _of_state(found[0])


def _of_state(folder: Path) -> Site:
    from knative_lambda.local import state

    if not state.is_held(folder):
        raise Fault(f"no local mode runs with the state folder {folder}: kn-lambda dev REPO --state-dir {folder}")
    file = folder / state.KUBECONFIG
    if not file.is_file():
        raise Fault(f"the local mode with the state folder {folder} is still starting: try again in a moment")
    return Site(file, None, folder)


def _state_of(kubeconfig: Path | None) -> Path | None:
    """Whoever names the kubeconfig of a local mode means that local mode, whose logs lie beside it."""
    from knative_lambda.local import state

    if kubeconfig is None or kubeconfig.name != state.KUBECONFIG:
        return None
    folder = kubeconfig.absolute().parent
    return folder if (folder / state.LOCK).is_file() else None


def _is_held(folder: Path) -> bool:
    from knative_lambda.local import state

    return state.is_held(folder)


def _endpoint(kubeconfig: Path) -> Endpoint:
    """Of a kubeconfig that local mode wrote: one address, certificate and token. Raises Fault.

    The client library would take half a second only to be imported, for all the clouds that it knows.
    """
    from knative_lambda.cluster.transport import Endpoint, StaticCredentials

    try:
        written = config.read(kubeconfig)
        cluster, user = written["clusters"][0]["cluster"], written["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        tls = ssl.create_default_context(cadata=authority)
        return Endpoint(str(cluster["server"]), StaticCredentials(f"Bearer {user['token']}"), tls)
    except (KeyError, IndexError, TypeError, ValueError, ssl.SSLError) as error:
        raise Fault(f"{kubeconfig} is not what local mode writes: start it again") from error
