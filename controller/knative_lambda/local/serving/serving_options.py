"""How local mode serves functions: every number of the process server in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass

MEBI = 1 << 20


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Given by the command line's `dev`; the defaults are for a laptop."""

    host: str = "127.0.0.1"
    """Where the listener is; with a loopback address, requests for other hosts' names are turned away."""
    port: int = 8080
    """Where the listener is; part of every function's URL."""
    grace_seconds: float = 30.0
    """How long the last instance is kept without a request, for functions that do not say."""
    idle_seconds: float | None = None
    """The same for all functions, whatever they say; None leaves it to them."""
    window_seconds: float = 10.0
    """Instances that were needed within so many seconds are kept; never longer than the last one without a request."""
    start_seconds: float = 60.0
    """A process that does not listen after so long has failed."""
    wait_seconds: float = 60.0
    """How long a request waits for an instance before it is answered 503."""
    queue: int = 250
    """Requests of one function that wait at once; the next one is answered 503."""
    drain_seconds: float = 30.0
    """How long requests that run may go on in an instance that is to end; never longer than the function's timeout."""
    stop_seconds: float = 5.0
    """How long a process may take to end by itself."""
    instances: int = 10
    """Instances of one function at most, whatever it asks for."""
    starts: int = max(2, os.cpu_count() or 2)
    """Processes that start at once; more of them would only hold each other up."""
    request_bytes: int = 10_000_000
    """A body of so many bytes or more is answered 413."""
    answer_bytes: int = 32 * MEBI
    """A longer answer of a function is answered 502."""
    buffered_bytes: int = 256 * MEBI
    """Bodies of all requests in memory at once; beyond, 503."""
    log_bytes: int = 2 * MEBI
    """What is kept on disk of one instance's output."""
    logs: int = 10
    """Instances of one function whose output is kept on disk."""
    tasks: int = 512
    """Processes and threads of one instance; beyond, it is ended."""
    look_seconds: float = 0.5
    """Seconds between looks at the load, and at what instances take of the machine."""
