"""A developer's working copy: writes function directories, commits, pushes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_IDENTITY = {
    "GIT_AUTHOR_NAME": "dev", "GIT_AUTHOR_EMAIL": "dev@example.com",
    "GIT_COMMITTER_NAME": "dev", "GIT_COMMITTER_EMAIL": "dev@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0",
}  # fmt: skip

MAIN_PY = "def handler(request):\n    return 'hello'\n"


class WorkingCopy:
    """A clone with `main` checked out."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")
        self.git("remote", "add", "origin", url)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env=os.environ | _IDENTITY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def remove(self, path: str) -> None:
        self.git("rm", "-rq", path)

    def function(self, name: str, *, code: str = MAIN_PY, extra: str = "") -> None:
        """A Python function directory below functions/."""
        self.write(f"functions/{name}/main.py", code)
        self.write(
            f"functions/{name}/function.yaml",
            "apiVersion: lambda.knative.io/v1alpha1\nkind: LambdaFunction\n"
            f"metadata:\n  name: {name}\nspec:\n  runtime:\n    language: python\n{extra}",
        )

    def push(self, message: str = "change") -> str:
        """Commits everything and pushes; returns the commit."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.git("push", "-q", "--force", "origin", "HEAD:main")
        return self.git("rev-parse", "HEAD")
