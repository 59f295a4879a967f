"""One git command, as a program that may not be trusted with anything: clean environment, time and size limits.

The environment is made, not inherited, so that no configuration, credential helper or `GIT_*` variable of the machine
takes part. Credentials travel in the environment or in private files, never in arguments or URLs. Called by checkout.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from knative_lambda.api.conditions import Reason
from knative_lambda.sources import gitcomplaints
from knative_lambda.sources.base import Credentials, SourceError

PROTOCOLS = ("https", "http", "ssh")
_PASSED_ON = (
    "PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "ALL_PROXY", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_EXEC_PATH", "LD_LIBRARY_PATH",
)  # fmt: skip
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.askPass": "",
    "core.bigFileThreshold": "16m",  # larger blobs are streamed, not held in memory
    "credential.helper": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    "protocol.allow": "never",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.writeCommitGraph": "false",
    "fetch.unpackLimit": "1",  # always a pack: its growth is what the size limit watches
    "fetch.fsckObjects": "true",
    "transfer.fsckObjects": "true",
    # Old tools wrote these harmlessly, and well-known repositories hold them.
    "fetch.fsck.zeroPaddedFilemode": "ignore",
    "fetch.fsck.badTimezone": "ignore",
    "fetch.fsck.missingSpaceBeforeDate": "ignore",
    "transfer.bundleURI": "false",
}
_LOOK = 0.2
"""Seconds between looks at the size while git runs."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one command may take. `size` is asked while git runs, and must stay below `size_limit`."""

    seconds: float
    size: Callable[[], int] | None = None
    size_limit: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What git said."""

    code: int
    out: str
    err: str


class Running:
    """The git processes of one checkout, so that a shutdown can end them."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[bytes]] = set()

    def end_all(self) -> None:
        for process in list(self._processes):
            kill(process)

    @contextlib.contextmanager
    def started(self, command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        """A process in its own group, which does not outlive the block."""
        with subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            self._processes.add(process)
            try:
                yield process
            finally:
                kill(process)
                self._processes.discard(process)


def run(running: Running, arguments: Sequence[str], environment: Mapping[str, str], limits: Limits) -> Answer:
    """Runs `git <arguments>`; raises SourceError when it takes too long or grows too large, and when git is missing."""
    try:
        with running.started(["git", *arguments], environment) as process:
            out, err = _watch(process, limits)
            code = process.returncode
        _check_size(limits)  # a quick command was over before the first look
    except FileNotFoundError as error:
        raise SourceError(Reason.UNREACHABLE, "the program git is not installed where the controller runs") from error
    return Answer(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def kill(process: subprocess.Popen[bytes]) -> None:
    """Ends git with everything that it started; nothing to do for a process that has ended."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _watch(process: subprocess.Popen[bytes], limits: Limits) -> tuple[bytes, bytes]:
    deadline = time.monotonic() + limits.seconds
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            words = f"git did not finish within {limits.seconds:g}s"
            raise SourceError(Reason.UNREACHABLE, words, retry=True)
        try:
            return process.communicate(timeout=min(left, _LOOK))
        except subprocess.TimeoutExpired:
            _check_size(limits)


def _check_size(limits: Limits) -> None:
    if limits.size is not None and limits.size() > limits.size_limit:
        words = f"the repository is larger than {limits.size_limit // 2**20} MiB"
        raise SourceError(Reason.SOURCE_REFUSED, words)


# The environment.


@contextlib.contextmanager
def environment(
    url: str, credentials: Credentials, *, protocols: Sequence[str] = PROTOCOLS, addresses: Sequence[str] = ()
) -> Iterator[dict[str, str]]:
    """Environment for one command against a remote; its private files are gone after the block.

    `addresses`, when given, are the only ones that an http(s) URL's host is dialled at: those that were checked, so
    that a name which changes its mind between check and use gains nothing (git 2.37 and later).
    """
    with _private_directory() as private:
        yield _environment(url, credentials, private, protocols=protocols, addresses=addresses)


def _environment(
    url: str, credentials: Credentials, private: Path, *, protocols: Sequence[str], addresses: Sequence[str]
) -> dict[str, str]:
    settings = {**_SETTINGS, **{f"protocol.{name}.allow": "always" for name in protocols}}
    if url.startswith(("http://", "https://")):
        settings |= _http(url, credentials, private) | _held_to(url, addresses)
    made = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    made |= {
        "HOME": str(private),
        "XDG_CONFIG_HOME": str(private),
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": ":".join(protocols),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_SSH_VARIANT": "ssh",
        "GIT_SSH_COMMAND": _ssh(credentials, private) if url.startswith("ssh://") else "false",
    }
    return made | _configuration(settings)


def _configuration(settings: Mapping[str, str]) -> dict[str, str]:
    """git configuration as environment: nobody sees it in the list of processes."""
    found = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        found[f"GIT_CONFIG_KEY_{number}"] = name
        found[f"GIT_CONFIG_VALUE_{number}"] = value
    return found


def _http(url: str, credentials: Credentials, private: Path) -> dict[str, str]:
    """Basic authentication for the origin of the URL only, and the certificate authority of the Secret."""
    found: dict[str, str] = {}
    parts = urlsplit(url)
    if credentials.get("password"):
        pair = f"{credentials.get('username') or 'git'}:{credentials.get('password')}"
        token = base64.b64encode(pair.encode()).decode()
        found[f"http.{parts.scheme}://{parts.netloc}/.extraHeader"] = f"Authorization: Basic {token}"
    if credentials.get("ca.crt"):
        found["http.sslCAInfo"] = str(_write(private / "ca.crt", credentials.get("ca.crt")))
    return found


def _held_to(url: str, addresses: Sequence[str]) -> dict[str, str]:
    parts = urlsplit(url)
    if not addresses:
        return {}
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    listed = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
    return {"http.curloptResolve": f"{parts.hostname}:{port}:{listed}"}


def _ssh(credentials: Credentials, private: Path) -> str:
    """The ssh command: this key, these hosts, nothing of the machine's own configuration."""
    identity, known_hosts = credentials.get("identity"), credentials.get("known_hosts")
    if not identity or not known_hosts:
        words = "an ssh URL needs a Secret with the keys identity (a private key) and known_hosts"
        raise SourceError(Reason.AUTHENTICATION_FAILED, words)
    if shutil.which("ssh") is None:
        raise SourceError(Reason.UNREACHABLE, "the program ssh is not installed where the controller runs")
    key = _write(private / "identity", identity.rstrip("\n") + "\n")
    hosts = _write(private / "known_hosts", known_hosts.rstrip("\n") + "\n")
    options = {
        "IdentityFile": str(key), "IdentitiesOnly": "yes", "IdentityAgent": "none", "BatchMode": "yes",
        "UserKnownHostsFile": str(hosts), "GlobalKnownHostsFile": os.devnull, "StrictHostKeyChecking": "yes",
        "ConnectTimeout": "15", "PasswordAuthentication": "no", "ForwardAgent": "no",
    }  # fmt: skip
    return shlex.join(["ssh", "-F", os.devnull, *(f"-o{name}={value}" for name, value in options.items())])


@contextlib.contextmanager
def _private_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kn-lambda-git-") as directory:
        yield Path(directory)


def _write(path: Path, text: str) -> Path:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return path


# What is refused before git sees it.


def check_url(url: str, protocols: Sequence[str] = PROTOCOLS) -> None:
    """Raises SourceError for a URL that git would read as an option, a remote helper, or with a secret in it."""
    if url.startswith("-") or "::" in url or any(ord(one) <= 32 or ord(one) == 127 for one in url):
        raise SourceError(Reason.SOURCE_REFUSED, "the URL must be an address such as https://host/path.git")
    parts = urlsplit(url)
    if parts.scheme not in protocols:
        raise SourceError(
            Reason.SOURCE_REFUSED, f"{parts.scheme or 'no'} protocol is allowed; use {', '.join(protocols)}"
        )
    if parts.password is not None or (parts.username and parts.scheme != "ssh"):
        words = "credentials do not belong in a URL; put them into a Secret and name it in spec.secretRef"
        raise SourceError(Reason.SOURCE_REFUSED, words)
    if (parts.hostname or "").startswith("-") or (parts.username or "").startswith("-"):
        raise SourceError(Reason.SOURCE_REFUSED, "the host name must not start with '-'")


def failure(answer: Answer, *, what: str) -> SourceError:
    """git's failure as a reason and words for a person."""
    return gitcomplaints.classify(answer.err or answer.out, what=what)
