"""Waiting for what is measured, without slowing it down."""

from __future__ import annotations

import threading
import time

from tests.testbed.kubernetes import KubernetesBed


class ObjectCounter(threading.Thread):
    """Waits for the last of many objects by one watch: a list at every look would slow down what it times."""

    def __init__(self, bed: KubernetesBed, path: str, count: int, *, seconds: int = 300) -> None:
        super().__init__(daemon=True)
        self._bed, self._path, self._count, self._seconds = bed, path, count, seconds
        self.first_at = self.ended_at = 0.0
        """perf_counter of the first and of the last object."""

    def run(self) -> None:
        deadline = time.monotonic() + self._seconds
        while not self.ended_at and time.monotonic() < deadline:
            self._follow()

    def _follow(self) -> None:
        """One list and one watch, which the server may end before the last object came."""
        listed = self._bed.api.get(self._path)
        names = {item["metadata"]["name"] for item in listed["items"]}
        version = listed["metadata"]["resourceVersion"]
        for event in self._bed.api.watch(self._path, seconds=self._seconds, resourceVersion=version):
            if event["type"] == "ADDED":
                names.add(event["object"]["metadata"]["name"])
                self.first_at = self.first_at or time.perf_counter()
            if len(names) == self._count:
                self.ended_at = time.perf_counter()
                return
            if event["type"] == "ERROR":
                return

    def wait(self) -> float:
        """perf_counter of the last object."""
        self.join(self._seconds)
        if not self.ended_at:
            raise RuntimeError(f"not all {self._count} objects of {self._path} exist after {self._seconds} s")
        return self.ended_at
