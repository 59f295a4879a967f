"""The informers of a controller: which kinds are watched, where, and what is kept of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from knative_lambda.api import kinds
from knative_lambda.api.meta import Kind
from knative_lambda.cluster.base import Cluster, Object, Selection
from knative_lambda.gitsync.observed import (
    HOOK_INDEX,
    REPOSITORY_INDEX,
    RepositorySeen,
    by_hook,
    by_repository,
    project_repository,
)
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.informer import Informer
from knative_lambda.machinery.store import Indexer
from knative_lambda.reconcile.world import CHILD_INDEXES, FUNCTION_INDEXES
from knative_lambda.resources import child, observed
from knative_lambda.resources.observed import BrokerSeen, FunctionSeen, JobSeen, PodSeen, ServiceSeen, TriggerSeen

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a controller looks."""

    namespaces: tuple[str, ...] = ()
    """Everywhere when empty."""
    build_namespace: str | None = None

    def selections(self, *, labels: str = "") -> tuple[Selection, ...]:
        """One per namespace, or one for all."""
        if not self.namespaces:
            return (Selection(labels=labels),)
        return tuple(Selection(namespace=name, labels=labels) for name in self.namespaces)

    def build_selections(self) -> tuple[Selection, ...]:
        """Where build Jobs and their Pods are."""
        if self.build_namespace is None:
            return self.selections(labels=child.BUILD_SELECTOR)
        return (Selection(namespace=self.build_namespace, labels=child.BUILD_SELECTOR),)


@dataclass(frozen=True, slots=True)
class Caches:
    """One informer per kind."""

    functions: Informer[FunctionSeen]
    repositories: Informer[RepositorySeen]
    jobs: Informer[JobSeen]
    pods: Informer[PodSeen]
    services: Informer[ServiceSeen]
    triggers: Informer[TriggerSeen]
    brokers: Informer[BrokerSeen]

    def all(self) -> tuple[Informer[Any], ...]:
        return tuple(getattr(self, field.name) for field in fields(self))


def make(cluster: Cluster, scope: Scope, *, clock: Clock) -> Caches:
    """The informers, not running yet."""

    def informer(
        kind: Kind,
        project: Callable[[Object], T | None],
        *,
        indexes: Mapping[str, Indexer[T]] | None = None,
        builds: bool = False,
    ) -> Informer[T]:
        where = scope.build_selections() if builds else scope.selections()
        return Informer(cluster, kind, project, clock=clock, selections=where, indexes=indexes)

    return Caches(
        functions=informer(
            kinds.LAMBDA_FUNCTION,
            observed.project_function,
            indexes={**FUNCTION_INDEXES, REPOSITORY_INDEX: by_repository},
        ),
        repositories=informer(kinds.FUNCTION_REPOSITORY, project_repository, indexes={HOOK_INDEX: by_hook}),
        jobs=informer(kinds.JOB, observed.project_job, indexes=CHILD_INDEXES, builds=True),
        pods=informer(kinds.POD, observed.project_pod, indexes=CHILD_INDEXES, builds=True),
        services=informer(kinds.SERVICE, observed.project_service),
        triggers=informer(kinds.TRIGGER, observed.project_trigger, indexes=CHILD_INDEXES),
        brokers=informer(kinds.BROKER, observed.project_broker),
    )
