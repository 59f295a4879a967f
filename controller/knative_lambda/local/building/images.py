"""Functions that can be run on this machine, by the digest of all that they are made of; on disk, shared, bounded.

    layers/KEY/content    installed dependencies, for every function that asks for the same
    images/HEX/app        a function: the build context's `runtime` and `function`, with links into layers
    building/NAME         what is being made; it counts only once it was renamed

One process owns the folder. Written by workshop in build threads, read by the process server through `find`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from knative_lambda.kit import digest as digests
from knative_lambda.local.building import trees
from knative_lambda.local.building.commands import Terms
from knative_lambda.local.building.toolchains.base import Layer, Place, Plan
from knative_lambda.resources import images as names
from knative_lambda.runtimes.base import FUNCTION, RUNTIME

VERSION = "1"
"""Of the folder's layout; what another release laid out is thrown away and made again."""
LIMIT_BYTES = 5 * 2**30
GRACE_SECONDS = 600.0
"""What was used so few seconds ago is in use, whoever knows of it."""
_LAYERS, _IMAGES, _BUILDING = "layers", "images", "building"
_NOTE, _CONTENT, _APP = "note.json", "content", "app"
_ROOT = "{root}"
"""Stands for the store's folder in what is written down."""
_WAIT = 0.1
log = structlog.get_logger(__name__)


class StoreTaken(Exception):
    """Another process works in the folder."""


@dataclass(frozen=True, slots=True)
class LocalImage:
    """A function as it can be started; the command starts one HTTP server that listens at 127.0.0.1:$PORT."""

    digest: str
    """With its `sha256:`."""
    folder: Path
    """Holds `runtime` (the shim) and `function` (the user's code), read-only files that functions share."""
    command: tuple[str, ...]
    env: Mapping[str, str]
    """What the command needs beside PATH, HOME and PORT."""
    runtime: str
    """Language and version that it runs with."""


class _Note(BaseModel):
    """What is written down of a layer or an image, beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    """What deleting it gives back."""
    runtime: str = ""
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Stored:
    folder: Path
    note: _Note
    used: float

    @property
    def name(self) -> str:
        return self.folder.name


class ImageStore:
    """See above. `find` is quick and may be called on the loop's thread; everything else blocks."""

    def __init__(self, root: Path, *, limit_bytes: int = LIMIT_BYTES, grace: float = GRACE_SECONDS) -> None:
        """Raises StoreTaken. What an earlier process left half made, or in another layout, is removed."""
        self._root = root.resolve()
        self._limit = limit_bytes
        self._grace = grace
        self._lock = threading.Lock()
        self._assembling = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._held: Counter[str] = Counter()
        self._root.mkdir(parents=True, exist_ok=True)
        self._owned = _owned(self._root / "owner")
        self._clean()

    def close(self) -> None:
        """Lets the next process have the folder."""
        if self._owned >= 0:
            os.close(self._owned)
            self._owned = -1

    def find(self, reference: str) -> LocalImage | None:
        """The image of a reference that ends in `@sha256:…`; None when there is none that is whole."""
        digest = reference.rpartition("@")[2]
        if not names.is_digest(digest):
            return None
        found = _read(self._image(digest))
        if found is None or not all(_read(self._layer(key)) for key in found.note.layers):
            return None
        _use(found)
        note = found.note
        return LocalImage(
            digest=digest,
            folder=found.folder / _APP,
            command=tuple(self._here(part) for part in note.command),
            env={name: self._here(value) for name, value in note.env.items()},
            runtime=note.runtime,
        )

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Workspace]:
        """A folder for one build, gone after the block with everything that was not put into the store."""
        folder = Path(tempfile.mkdtemp(dir=self._root / _BUILDING))
        space = Workspace(self, folder)
        try:
            yield space
        finally:
            trees.remove(folder)
            with self._lock:
                self._held.subtract(space.held)
                self._held += Counter()  # forgets what nobody holds

    # ---- layers ----

    def ensure(self, layer: Layer, *, space: Workspace, terms: Terms) -> Path:
        """The layer's folder, installed if it is not there; two builds never install the same one at once."""
        parent = self.ensure(layer.parent, space=space, terms=terms) if layer.parent is not None else None
        self.hold(layer.key, space)
        with self._lock:
            making = self._making.setdefault(layer.key, threading.Lock())
        while not making.acquire(timeout=_WAIT):
            terms.check()
        try:
            found = _read(self._layer(layer.key))
            if found is None:
                self._make(layer, parent, space=space, terms=terms)
            else:
                _use(found)
        finally:
            making.release()
        return self._layer(layer.key) / _CONTENT

    def hold(self, key: str, space: Workspace) -> None:
        """That layer stays as long as the workspace does, whether it is there yet or not."""
        with self._lock:
            self._held[key] += 1
            space.held[key] += 1

    def _make(self, layer: Layer, parent: Path | None, *, space: Workspace, terms: Terms) -> None:
        folder = Path(tempfile.mkdtemp(dir=space.folder))
        made, final = folder / _CONTENT, self._layer(layer.key) / _CONTENT
        if parent is None:
            made.mkdir()
        else:
            trees.linked_copy(parent, made)
        layer.fill(Place(made, final, parent), terms)
        shared = trees.inodes(parent) if parent is not None else {}
        size = sum(size for inode, size in trees.inodes(made).items() if inode not in shared)
        self._settle(folder, self._layer(layer.key), _Note(bytes=size))

    # ---- images ----

    def put(self, plan: Plan, context: Path, *, space: Workspace, terms: Terms) -> str:
        """The digest of the function in that build context, made runnable and kept."""
        digest = identity(plan, context)
        if self.find(digest) is not None:
            return digest
        layers = [self.ensure(layer, space=space, terms=terms) for layer in plan.layers]
        terms.check()
        with self._assembling:
            if self.find(digest) is None:
                self._assemble(plan, context, layers=layers, digest=digest, space=space)
        return digest

    def _assemble(self, plan: Plan, context: Path, *, layers: list[Path], digest: str, space: Workspace) -> None:
        folder = Path(tempfile.mkdtemp(dir=space.folder))
        app = folder / _APP
        app.mkdir()
        for part in (RUNTIME, FUNCTION):
            (context / part).rename(app / part)
        final = self._image(digest) / _APP
        for place, (number, target) in plan.links.items():
            (app / place).symlink_to(os.path.relpath(layers[number] / target, (final / place).parent))
        launch = plan.launch(final, layers)
        note = _Note(
            bytes=sum(trees.inodes(app).values()),
            runtime=plan.runtime,
            command=tuple(self._anywhere(part) for part in launch.command),
            env={name: self._anywhere(value) for name, value in launch.env.items()},
            layers=tuple(layer.key for layer in plan.layers),
        )
        trees.protect(app)
        self._settle(folder, self._image(digest), note)

    def _settle(self, folder: Path, final: Path, note: _Note) -> None:
        """The moment from which it counts. What stands there is broken, or it would have been found."""
        (folder / _NOTE).write_text(note.model_dump_json())
        folder.chmod(0o755)  # functions may run as another user
        with self._lock:
            self._discard(final)
            folder.rename(final)

    # ---- eviction ----

    def evict(self, keep: Collection[str] = ()) -> list[str]:
        """Deletes what was used least recently until the limit holds; the names of what went.

        Never: images that `keep` refers to, what was used within the grace period, layers of images that stay or of
        builds that run.
        """
        kept = {reference.rpartition("@sha256:")[2] for reference in keep}
        gone: list[str] = []
        with self._lock:
            images, layers = self._all(_IMAGES), self._all(_LAYERS)
            while sum(one.note.bytes for one in (*images, *layers)) > self._limit:
                needed = {key for image in images for key in image.note.layers} | set(self._held)
                spare = [one for one in images if one.name not in kept]
                spare += [one for one in layers if one.name not in needed]
                oldest = min(spare, key=lambda one: one.used, default=None)
                if oldest is None or time.time() - oldest.used < self._grace:
                    break
                self._discard(oldest.folder)
                gone.append(oldest.name)
                images = [one for one in images if one is not oldest]
                layers = [one for one in layers if one is not oldest]
        for name in gone:
            log.info("deleted to make room", name=name)
        return gone

    def _discard(self, folder: Path) -> None:
        """Out of sight at once, whole; then gone."""
        if folder.exists():
            trash = Path(tempfile.mkdtemp(dir=self._root / _BUILDING))
            folder.rename(trash / "trash")
            trees.remove(trash)

    def _all(self, kind: str) -> list[_Stored]:
        found = (_read(folder) for folder in (self._root / kind).iterdir())
        return [one for one in found if one is not None]

    # ---- the folder ----

    def _clean(self) -> None:
        version = self._root / "version"
        current = version.is_file() and version.read_text() == VERSION
        for part in (_BUILDING, *(() if current else (_IMAGES, _LAYERS))):
            trees.remove(self._root / part)
        for part in (_BUILDING, _IMAGES, _LAYERS):
            (self._root / part).mkdir(exist_ok=True)
        version.write_text(VERSION)

    def _image(self, digest: str) -> Path:
        return self._root / _IMAGES / digest.removeprefix("sha256:")

    def _layer(self, key: str) -> Path:
        return self._root / _LAYERS / key

    def _anywhere(self, text: str) -> str:
        return text.replace(str(self._root), _ROOT)

    def _here(self, text: str) -> str:
        return text.replace(_ROOT, str(self._root))


class Workspace:
    """What one build works in."""

    def __init__(self, store: ImageStore, folder: Path) -> None:
        self._store = store
        self.folder = folder
        self.held: Counter[str] = Counter()
        """Layers that must not be deleted meanwhile."""

    def put(self, plan: Plan, context: Path, terms: Terms) -> str:
        """See ImageStore.put."""
        return self._store.put(plan, context, space=self, terms=terms)


def identity(plan: Plan, context: Path) -> str:
    """`sha256:` and 64 hex characters over the build context, the dependencies and how it is started."""
    parts = [VERSION, trees.identity(context), [layer.key for layer in plan.layers], plan.runtime]
    return f"sha256:{digests.digest('image', *parts)}"


def _read(folder: Path) -> _Stored | None:
    """None for what is not whole or not ours."""
    note = folder / _NOTE
    try:
        return _Stored(folder, _Note.model_validate_json(note.read_bytes()), note.stat().st_mtime)
    except (OSError, ValidationError):
        return None


def _use(stored: _Stored) -> None:
    with contextlib.suppress(OSError):
        os.utime(stored.folder / _NOTE)


def _owned(file: Path) -> int:
    """A lock that ends with this process, however it ends."""
    found = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(found)
        raise StoreTaken(f"another kn-lambda works in {file.parent}; end it, or name another --state-dir") from None
    return found
