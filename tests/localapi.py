"""A memory cluster behind the local Kubernetes API, on a real TLS socket of loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from knative_lambda.cluster.kube import KubeCluster
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.cluster.transport import Tuning
from knative_lambda.kit.clock import SystemClock
from knative_lambda.local.kube import kubeaccess
from knative_lambda.local.kube.kubeaccess import Access
from knative_lambda.local.kube.kubeapi import KubeApi
from knative_lambda.wiring.http import Listener


@dataclass(frozen=True)
class LocalApi:
    """Where it is, and what a client needs to know."""

    url: str
    """Without the prefix."""
    access: Access
    kubeconfig: Path

    async def connect(self) -> KubeCluster:
        """Our own client on it."""
        return await KubeCluster.connect(kubeconfig=self.kubeconfig, clock=SystemClock(), tuning=Tuning(qps=0))


@contextlib.asynccontextmanager
async def served(memory: MemoryCluster, folder: Path) -> AsyncIterator[LocalApi]:
    clock = SystemClock()
    access = kubeaccess.create(folder / "api", clock=clock)
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    listener = Listener("kube", "127.0.0.1", port, grace=2, certificate=access.certificate, key=access.key)
    task = asyncio.create_task(KubeApi(memory, access, clock=clock).serve(listener, sock))
    url = f"https://127.0.0.1:{port}"
    kubeconfig = folder / "kubeconfig"
    kubeaccess.write_private(kubeconfig, kubeaccess.kubeconfig(url, access).encode())
    try:
        yield LocalApi(url, access, kubeconfig)
    finally:
        task.cancel()
        await asyncio.wait({task})
        await memory.close()
