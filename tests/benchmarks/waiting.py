"""Waiting for what is measured, without slowing it down."""

from __future__ import annotations

import threading
import time

from tests.apiserver.proxy import ApiProxy
from tests.testbed.kubernetes import KubernetesBed


class ObjectCounter(threading.Thread):
    """Waits for the last of many objects by one watch: a list at every look would slow down what it times."""

    def __init__(self, bed: KubernetesBed, path: str, count: int, *, seconds: int = 300) -> None:
        super().__init__(daemon=True)
        self._bed, self._path, self._count, self._seconds = bed, path, count, seconds
        self.ended_at = 0.0

    def run(self) -> None:
        version = self._bed.api.get(self._path, limit=1)["metadata"]["resourceVersion"]
        names: set[str] = set()
        for event in self._bed.api.watch(self._path, seconds=self._seconds, resourceVersion=version):
            names.add(event["object"]["metadata"].get("name", ""))
            if len(names - {""}) == self._count:
                self.ended_at = time.perf_counter()
                return

    def wait(self) -> float:
        """perf_counter of the last object."""
        self.join(self._seconds)
        if not self.ended_at:
            raise RuntimeError(f"not all {self._count} objects of {self._path} exist after {self._seconds} s")
        return self.ended_at


def until_quiet(proxy: ApiProxy, *, quiet: float = 3.0, timeout: float = 600.0) -> None:
    """Until no request but watches came through for a while."""
    deadline = time.monotonic() + timeout
    seen = -1
    while time.monotonic() < deadline:
        now = sum(not call.watch for call in list(proxy.calls))
        if now == seen:
            return
        seen = now
        time.sleep(quiet)
    raise RuntimeError(f"the controller does not come to rest within {timeout:.0f} s")
