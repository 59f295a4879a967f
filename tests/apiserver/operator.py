"""The controller as its own process, started the way a user starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

READY = "controller ready"


class Operator:
    """`kn-lambda controller` as a child process with a log file; JSON log lines can be waited for."""

    def __init__(
        self,
        *,
        kubeconfig: Path,
        folder: Path,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """It listens nowhere, unless `environment` gives it ports."""
        folder.mkdir(parents=True, exist_ok=True)
        self._command = [
            sys.executable, "-m", "knative_lambda", "controller",
            "--kubeconfig", str(kubeconfig), "--log-format", "json", *arguments,
        ]  # fmt: skip
        self._environment = os.environ | {
            "KN_LAMBDA_CACHE_DIR": str(folder / "cache"),
            "KN_LAMBDA_ALLOW_NETWORKS": "127.0.0.0/8",
            "KN_LAMBDA_BUILD_RETRIES": "0",
            "KN_LAMBDA_WEBHOOK_HOST": "127.0.0.1",
            "KN_LAMBDA_HTTP_HOST": "127.0.0.1",
            "KN_LAMBDA_WEBHOOK_PORT": "0",
            "KN_LAMBDA_HTTP_PORT": "0",
            "PYTHONWARNINGS": "default",
            **(environment or {}),
        }
        self.log_file = folder / "controller.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def start(self, *, wait: bool = True, timeout: float = 40) -> Operator:
        """Starts it; with `wait`, returns when it says that it is ready."""
        offset = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)
        if wait:
            self.wait_for_log(READY, timeout=timeout, offset=offset)
        return self

    def wait_for_log(self, event: str, *, timeout: float = 30, offset: int = 0) -> dict[str, Any]:
        """The first log line with that event after `offset` bytes."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for line in self.log_lines(offset=offset):
                if line.get("event") == event:
                    return line
            if not self.running:
                break
            time.sleep(0.05)
        raise AssertionError(f"no {event!r} in the log (running: {self.running}); its end:\n{self.log_tail()}")

    def log_lines(self, *, offset: int = 0) -> list[dict[str, Any]]:
        """Every JSON line of the log."""
        if not self.log_file.exists():
            return []
        lines = self.log_file.read_bytes()[offset:].splitlines()
        return [orjson.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]

    def log_tail(self, size: int = 4000) -> str:
        return self.log_file.read_text(errors="replace")[-size:] if self.log_file.exists() else "(no log)"

    def terminate(self, *, timeout: float = 40) -> int:
        """SIGTERM, and its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout)

    def wait(self, *, timeout: float = 40) -> int:
        """Its exit code, once it ends by itself."""
        assert self._process is not None
        return self._process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL, as a node that dies would."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(20)

    def usage(self) -> tuple[float, int]:
        """(CPU seconds so far, resident bytes)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
