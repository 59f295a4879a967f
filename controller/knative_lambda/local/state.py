"""Where local mode keeps what outlives it, and which local modes run. Called by dev and by commands that look for one.

A folder per repository, so that a restart is warm and two repositories do not meet. `lock` in it is held while local
mode runs; it is the kernel that lets go of it, however the process ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from urllib.parse import urlsplit

from knative_lambda.api.meta import Key
from knative_lambda.kit import digest

LOCK = "lock"
KUBECONFIG = "kubeconfig"
"""Written when the local API listens."""
PARTS = {
    "images": 0o711, "processes": 0o711, "processes/logs": 0o700,
    "builds": 0o700, "cache": 0o700, "repository.git": 0o700, "api": 0o700,
}  # fmt: skip
"""Folders in it, and who may enter: code is private, but root's functions have their own users."""
_ATTEMPTS, _PAUSE = 20, 0.05
"""Who asks whether it is held takes it for a moment."""


class Held(Exception):
    """Another local mode runs on that folder."""


def home() -> Path:
    """Holds one folder per repository."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if cache.startswith("/") else Path.home() / ".cache"  # XDG: what is not absolute is not valid
    return base / "knative-lambda" / "dev"


def default_state(place: str) -> Path:
    """The folder of a repository that is named by a path or a URL; it need not be there yet."""
    place = place.removeprefix("file://")
    if "://" in place:
        name, identity = urlsplit(place).path, place
    else:
        identity = name = str(Path(place).expanduser().resolve())
    last = name.rstrip("/").rpartition("/")[2].removesuffix(".git")
    shown = "".join(one if one.isalnum() or one in "-_." else "-" for one in last).strip("-.")[:40]
    return home() / f"{shown or 'repository'}-{digest.short(identity)}"


def running() -> list[Path]:
    """Folders of the local modes that run with a default folder, by name."""
    return sorted(lock.parent for lock in home().glob(f"*/{LOCK}") if is_held(lock.parent))


def is_held(state: Path) -> bool:
    """Whether local mode runs on that folder. Raises OSError when its lock cannot be read."""
    try:
        descriptor = os.open(state / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def hold(state: Path) -> int:
    """Holds the folder, which is made, until the descriptor is closed or the process ends. Raises Held, OSError."""
    _make(state)
    descriptor = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        else:
            return descriptor
    os.close(descriptor)
    raise Held(f"local mode runs already with the state folder {state}")


def _make(state: Path) -> None:
    """Root's functions are run by other users, who may go through to what they need and look at nothing else."""
    state.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    for name, mode in PARTS.items():
        (state / name).mkdir(exist_ok=True)
        (state / name).chmod(mode)


def processes(state: Path) -> Path:
    """The process server's folder."""
    return state / "processes"


def function_logs(state: Path, service: Key) -> Path:
    """Holds one file per instance; as server.ProcessServer.log_folder says."""
    return processes(state) / "logs" / service.namespace / service.name


def build_logs(state: Path) -> Path:
    """Holds one folder per namespace of build Jobs; see build_log.place."""
    return state / "builds"


def letters(state: Path) -> Path:
    """The file of the dead letters."""
    return state / "letters.db"
