"""A function's children as the controller would write them, without a cluster. Called by `kn-lambda render`.

The controller's own `decide` is asked twice: once for a function that nothing is known of, which gives the build Job,
and once as if that build had ended well, which gives the Knative Service and the Triggers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from knative_lambda.api import crd, function, meta
from knative_lambda.api.function import BuildStatus, LambdaFunction, Source
from knative_lambda.gitsync import desired
from knative_lambda.gitsync.desired import Frame
from knative_lambda.reconcile.decide import decide
from knative_lambda.reconcile.plan import Apply, Create, Plan, Stall
from knative_lambda.reconcile.snapshot import Snapshot, SourceProblem
from knative_lambda.resources import images
from knative_lambda.sources import identity
from knative_lambda.sources.base import Resolution, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knative_lambda.api.repository import FunctionRepository
    from knative_lambda.gitsync.declared import Declared
    from knative_lambda.reconcile.settings import ReconcileSettings

Manifest = dict[str, Any]

EXAMPLE_COMMIT = "0" * 40
EXAMPLE_DIGEST = "sha256:" + "0" * 64
EXAMPLE_UID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Rendered:
    """One function with its children."""

    fn: Manifest
    """The LambdaFunction with every default."""
    children: tuple[Manifest, ...]
    problems: tuple[str, ...]
    """Why the controller would stop; children that it would not come to are not there."""


def bind(declared: Declared, repo: FunctionRepository | None, *, namespace: str, commit: str) -> Manifest:
    """The LambdaFunction that gitsync would write for that repository; without one, with an example's URL."""
    if repo is not None:
        frame = Frame.of(_placed(repo, namespace))
        return desired.build(declared, frame, tree=frame.tree(declared), commit=commit).manifest
    manifest = declared.sample()
    if declared.beside:
        git = {**manifest["spec"]["source"]["git"], "path": declared.path, "commit": commit}
        manifest = {**manifest, "spec": {**manifest["spec"], "source": {"type": "git", "git": git}}}
    named = {"labels": declared.labels, "annotations": declared.annotations}
    metadata = {"name": declared.name, "namespace": namespace, **{key: value for key, value in named.items() if value}}
    return {**manifest, "metadata": metadata}


def _placed(repo: FunctionRepository, namespace: str) -> FunctionRepository:
    """A manifest without a namespace goes where it is applied to."""
    metadata = repo.metadata.model_copy(update={"namespace": repo.metadata.namespace or namespace})
    return repo.model_copy(update={"metadata": metadata})


def render(manifest: Manifest, settings: ReconcileSettings) -> Rendered:
    """Everything that would be made of a LambdaFunction."""
    fn = function.parse({**manifest, "metadata": {**manifest["metadata"], "uid": EXAMPLE_UID, "generation": 1}})
    first = _plan(fn, settings)
    second = _plan(_built(fn, first.status.build_status, settings), settings)
    problems = dict.fromkeys(verdict.message for verdict in second.verdicts if isinstance(verdict, Stall))
    children = [*_children(first, Create), *_children(second, Apply)]
    return Rendered(_complete(manifest, fn), tuple(children), tuple(problems))


def _plan(fn: LambdaFunction, settings: ReconcileSettings) -> Plan:
    return decide(Snapshot(fn=fn, now=datetime.now(UTC), resolution=_resolution(fn.spec.source)), settings)


def _resolution(source: Source) -> Resolution | SourceProblem | None:
    """What the source says of itself; where a remote would have to be asked, an example."""
    if source.image is not None:
        return None
    try:
        found = identity.known(source)
    except SourceError as error:
        return SourceProblem(error.reason, error.message, error.retry)
    if found is not None or source.git is None:
        return found
    return identity.of_git(source.git, EXAMPLE_COMMIT)


def _built(fn: LambdaFunction, build: BuildStatus | None, settings: ReconcileSettings) -> LambdaFunction:
    """The function as it is once that build has been pushed."""
    if build is None:
        return fn
    image = images.repositories(fn, settings.build.registries).pinned(EXAMPLE_DIGEST)
    status = fn.status.model_copy(update={"build_status": build.model_copy(update={"image_uri": image})})
    return fn.model_copy(update={"status": status})


def _children(plan: Plan, kind: type[Create] | type[Apply]) -> Iterator[Manifest]:
    for write in plan.writes:
        if isinstance(write, kind):
            yield write.manifest


def _complete(manifest: Manifest, fn: LambdaFunction) -> Manifest:
    spec = crd.pruned(fn.spec.model_dump(mode="json", by_alias=True, exclude_none=True))
    return {"apiVersion": meta.API_VERSION, "kind": "LambdaFunction", "metadata": manifest["metadata"], "spec": spec}
