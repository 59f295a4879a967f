"""Real git repositories that tests write to."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


class Repository:
    """A repository that a test writes to."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    @property
    def url(self) -> str:
        return f"file://{self.place}"

    def git(self, *arguments: str, feed: str | bytes = b"") -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.place, env={**_ENVIRONMENT, "HOME": str(self.place)}, check=True,
            capture_output=True, input=feed.encode() if isinstance(feed, str) else feed,
        )  # fmt: skip
        return done.stdout.decode().strip()

    def write(self, files: dict[str, str]) -> None:
        for path, text in files.items():
            file = self.place / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def commit(self, files: dict[str, str] | None = None, message: str = "change") -> str:
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


class AnyAddress:
    """A dial policy that allows everything."""

    def addresses(self, url: str) -> tuple[str, ...]:
        assert url
        return ()
