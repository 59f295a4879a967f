"""Where `kn-lambda dlq replay` sends letters: POST, one at a time, over a kept connection. Called by cli.dlq."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from urllib.parse import SplitResult, urlsplit

import aiohttp

from knative_lambda.cli.failures import Fault
from knative_lambda.cli.output import printable
from knative_lambda.cli.posting import Loopback
from knative_lambda.events.encoding import InvalidEvent
from knative_lambda.events.mailbox import Parked
from knative_lambda.events.resending import Message, Mode, message
from knative_lambda.kit import redact

ANSWER_LIMIT = 64 * 1024
"""Bytes of an answer's body that are read to keep the connection; nobody looks at them."""
IDLE_SECONDS = 2.0
"""Age of a quiet connection that is not used again: servers close theirs after five seconds and more."""


class Target:
    """An address, and what it said last."""

    def __init__(self, url: str, *, timeout: float, mode: Mode = Mode.AS_IS) -> None:
        """`timeout`: seconds that one delivery may take, from the name's look-up to the last header."""
        self.problem = ""
        """Why the last letter was not accepted."""
        self.answered = True
        """Whether the target said anything at all to the last letter."""
        self._url = url
        self._timeout = timeout
        self._mode = mode
        self._runner = asyncio.Runner()
        self._session = self._runner.run(self._open())

    @classmethod
    def parse(cls, url: str, *, timeout: float, mode: Mode = Mode.AS_IS) -> Target:
        """Raises Fault for what is no HTTP address."""
        return cls(address(url), timeout=timeout, mode=mode)

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def accepts(self, letter: Parked) -> bool:
        """Whether the target answered 2xx. A redirect is not followed: it would be another target."""
        try:
            outgoing = message(letter, self._mode)
        except InvalidEvent as error:
            self.problem, self.answered = f"cannot be sent in {self._mode} mode: {error}", True
            return False
        self.problem = self._runner.run(self._post(outgoing))
        return not self.problem

    def rest(self, seconds: float) -> None:
        """Waits; a connection that the target closes meanwhile is noticed."""
        self._runner.run(asyncio.sleep(seconds))

    def close(self) -> None:
        """Ends the connection."""
        self._runner.run(self._session.close())
        self._runner.close()

    async def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=IDLE_SECONDS, resolver=Loopback()),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            headers={"user-agent": "kn-lambda"},
            auto_decompress=False,
        )

    async def _post(self, outgoing: Message) -> str:
        """The problem, or nothing."""
        self.answered = False
        try:
            async with self._session.post(
                self._url, data=outgoing.body, headers=outgoing.headers, allow_redirects=False
            ) as answer:
                self.answered = True
                await _read(answer)
        except TimeoutError:
            return f"no answer within {self._timeout:g} s"
        except aiohttp.ClientResponseError:  # its text is of many lines and quotes what came
            return "it does not speak HTTP"
        except (OSError, aiohttp.ClientError) as error:
            return redact.text(str(error) or type(error).__name__)
        return _refusal(answer.status)


def address(url: str) -> str:
    """The address if a letter can be sent there. Raises Fault."""
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
        raise Fault(f"--to: {printable(redact.text(url))} is no http:// or https:// address")
    if parts.username is not None:
        raise Fault(f"--to: {printable(redact.url(url))}: a user and a password are not sent; leave them out")
    return url


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        usable = parts.port is None or parts.port > 0  # reading it raises for what is no port
    except ValueError:
        return None
    return parts if usable and " " not in url else None


def _refusal(status: int) -> str:
    if status // 100 == 2:
        return ""
    return f"HTTP {status}" + (", a redirect, which is not followed" if status // 100 == 3 else "")


async def _read(answer: aiohttp.ClientResponse) -> None:
    """The status is the answer; a body that breaks off changes nothing, it only costs the connection."""
    size = 0
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async for chunk in answer.content.iter_any():
            size += len(chunk)
            if size >= ANSWER_LIMIT:
                answer.close()
                return
