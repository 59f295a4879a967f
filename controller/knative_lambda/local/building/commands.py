"""One program of a build: in a process group of its own, with a cleaned environment, under limits of time and output.

Called by the toolchains, in a build's thread. Between us and the program stands `warden`, so that not even the death
of this process leaves it running.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from knative_lambda.kit.clock import Clock
from knative_lambda.local.building import warden
from knative_lambda.local.building.build_log import BuildLog

OUTPUT_BYTES = 64 * 1024 * 1024
"""What a program may print before it is ended."""
LOOK = 0.1
"""Seconds between looks at the clock and at the order to stop."""
CHUNK = 65536
ENDING = 5.0
"""Seconds that the warden gets to end everything."""

PASSED_ON = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH",
        "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "PYENV_ROOT", "UV_PYTHON_INSTALL_DIR",
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
        "PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_CERT", "PIP_CACHE_DIR",
        "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_PROXY",
        "UV_CONFIG_FILE", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS",
        "UV_CACHE_DIR", "UV_OFFLINE", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS",
        "NPM_CONFIG_REGISTRY", "NPM_CONFIG_USERCONFIG", "NPM_CONFIG_CACHE", "NPM_CONFIG_CAFILE", "NPM_CONFIG_OFFLINE",
        "NPM_CONFIG_PREFER_OFFLINE", "NPM_CONFIG_PROXY", "NPM_CONFIG_HTTPS_PROXY", "NPM_CONFIG_NOPROXY",
        "GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOPRIVATE", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOINSECURE",
    }
)  # fmt: skip
"""All that installers learn of the environment that we run in: where indexes, proxies, caches and Pythons are. An
index's own credentials may be among it; a person gave them to the installer, and nothing of them is logged."""


def cleaned(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that is passed on; npm's settings count in small letters, too."""
    return {
        name: value
        for name, value in environment.items()
        if name in PASSED_ON or (name.startswith("npm_config_") and name.upper() in PASSED_ON)
    }


class Stopped(Exception):
    """The build is not wanted any more."""


class Expired(Exception):
    """The build took longer than it may."""


class CommandFailed(Exception):
    """A program that could not do its work; the message is what it said last, safe to show."""

    def __init__(self, tool: str, code: int, message: str) -> None:
        super().__init__(message)
        self.tool = tool
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Terms:
    """What one build may take and where it writes."""

    log: BuildLog
    clock: Clock
    deadline: float
    """Of clock.monotonic()."""
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - self.clock.monotonic()

    def check(self) -> None:
        """Raises Stopped or Expired when it is time to end."""
        if self.stop.is_set():
            raise Stopped
        if self.left <= 0:
            raise Expired


@dataclass(frozen=True, slots=True)
class Command:
    """A program with all that it gets of us."""

    tool: str
    """What a person calls it: pip, npm."""
    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    noise: tuple[str, ...] = ()
    """How lines begin that tell nobody why it failed."""
    output_limit: int = OUTPUT_BYTES


def run(command: Command, terms: Terms) -> None:
    """Until it has ended. Raises CommandFailed, Stopped or Expired; nothing of it runs any more, whichever it is."""
    terms.check()
    terms.log.say(" ".join(command.arguments))
    terms.log.begin(command.noise)
    with _started(command) as process:
        printed = _followed(process, command, terms)
        if printed <= command.output_limit:
            _await_end(process, terms)
    if printed > command.output_limit:
        words = f"{command.tool} printed more than {command.output_limit // 2**20} MiB and was ended; at last:\n"
        raise CommandFailed(command.tool, 137, words + terms.log.tail())
    code = process.returncode
    if code != 0:
        raise CommandFailed(command.tool, code, terms.log.tail())


@contextlib.contextmanager
def _started(command: Command) -> Iterator[subprocess.Popen[bytes]]:
    """The warden with the program below it, both gone after the block."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(warden.__file__)), *command.arguments],
        cwd=command.folder,
        env=dict(command.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Lets go of the warden, who ends the program; a warden that does not come back is killed."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(ENDING)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _followed(process: subprocess.Popen[bytes], command: Command, terms: Terms) -> int:
    """Bytes that were printed until the program ended, or until there were too many."""
    assert process.stdout is not None
    output = process.stdout.fileno()
    os.set_blocking(output, False)
    printed = 0
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while printed <= command.output_limit:
            terms.check()
            over = process.poll() is not None
            chunk = _read(output) if selector.select(0 if over else LOOK) else None
            if chunk == b"" or (over and chunk is None):
                break
            printed += len(chunk or b"")
            terms.log.feed(chunk or b"")
    return printed


def _await_end(process: subprocess.Popen[bytes], terms: Terms) -> None:
    """A program may close its output and go on."""
    while process.poll() is None:
        terms.check()
        terms.stop.wait(LOOK)


def _read(output: int) -> bytes | None:
    """None when there is nothing yet, empty when there never will be."""
    try:
        return os.read(output, CHUNK)
    except BlockingIOError:
        return None
