"""Every right that the chart gives, beside the code that needs it, and what it must never give."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

Manifest = dict[str, Any]


class Right(NamedTuple):
    """One verb on one resource."""

    group: str
    resource: str
    verb: str


class Need(NamedTuple):
    """Code that uses a right: a function or class, and words that stand in its source."""

    place: str
    """module:name"""
    words: str


_LAMBDA, _SERVING, _EVENTING = "lambda.knative.io", "serving.knative.dev", "eventing.knative.dev"
_PROVIDES = "knative_lambda.reconcile.act:_provide"
_APPLIES = "knative_lambda.reconcile.act:_apply"
_ELECTION = "knative_lambda.machinery.election:Election"
_RECORDER = "knative_lambda.machinery.recorder:Recorder"


def _watched(group: str, resource: str, kind: str) -> dict[Right, Need]:
    """An informer lists and watches."""
    return {
        Right(group, resource, verb): Need("knative_lambda.wiring.caches:make", f"kinds.{kind}")
        for verb in ("list", "watch")
    }


def _topology(verb: str, words: str) -> dict[Right, Need]:
    """Objects of RabbitMQ's topology operator are read and applied; what is applied may have to be made."""
    kinds = ("exchanges", "queues", "bindings", "policies")
    return {
        Right("rabbitmq.com", kind, verb): Need("knative_lambda.reconcile.topology:TopologyQueues", words)
        for kind in kinds
    }


NEEDS: dict[Right, Need] = {
    **_watched(_LAMBDA, "lambdafunctions", "LAMBDA_FUNCTION"),
    **_watched(_LAMBDA, "functionrepositories", "FUNCTION_REPOSITORY"),
    **_watched("batch", "jobs", "JOB"),
    **_watched("", "pods", "POD"),
    **_watched(_SERVING, "services", "SERVICE"),
    **_watched(_EVENTING, "triggers", "TRIGGER"),
    **_watched(_EVENTING, "brokers", "BROKER"),
    Right(_LAMBDA, "lambdafunctions", "create"): Need("knative_lambda.gitsync.acting:_apply", "cluster.apply("),
    Right(_LAMBDA, "lambdafunctions", "patch"): Need("knative_lambda.reconcile.act:patch_finalizers", "cluster.patch("),
    Right(_LAMBDA, "lambdafunctions", "delete"): Need("knative_lambda.gitsync.acting:_delete", "cluster.delete("),
    Right(_LAMBDA, "lambdafunctions/status", "patch"): Need(
        "knative_lambda.reconcile.report:_write", 'subresource="status"'
    ),
    # Where the admission plugin OwnerReferencesPermissionEnforcement is on, blockOwnerDeletion asks for this.
    Right(_LAMBDA, "lambdafunctions/finalizers", "update"): Need(
        "knative_lambda.api.meta:owner_reference", '"blockOwnerDeletion": True'
    ),
    Right(_LAMBDA, "functionrepositories", "patch"): Need("knative_lambda.gitsync.leaving:_release", "cluster.patch("),
    Right(_LAMBDA, "functionrepositories/status", "patch"): Need(
        "knative_lambda.gitsync.loop:_write_status", 'subresource="status"'
    ),
    Right("batch", "jobs", "get"): Need("knative_lambda.reconcile.act:_existing", "cluster.get("),
    Right("batch", "jobs", "create"): Need("knative_lambda.reconcile.act:_create", "cluster.create("),
    Right("batch", "jobs", "delete"): Need("knative_lambda.reconcile.steps.finalize:let_go", "Delete(kinds.JOB"),
    Right("", "secrets", "get"): Need("knative_lambda.gitsync.fetching:_secret", "kinds.SECRET"),
    Right(_SERVING, "services", "create"): Need(_APPLIES, "kinds.SERVICE"),
    Right(_SERVING, "services", "patch"): Need(_APPLIES, "kinds.SERVICE"),
    Right(_EVENTING, "triggers", "create"): Need(_APPLIES, "kinds.TRIGGER"),
    Right(_EVENTING, "triggers", "patch"): Need(_APPLIES, "kinds.TRIGGER"),
    Right(_EVENTING, "triggers", "delete"): Need("knative_lambda.reconcile.steps.orphans:step", "Delete(kinds.TRIGGER"),
    Right(_EVENTING, "brokers", "create"): Need(_PROVIDES, "cluster.create(kind"),
    Right(_EVENTING, "rabbitmqbrokerconfigs", "create"): Need(_PROVIDES, "cluster.create(kind"),
    **_topology("get", "cluster.get(kind"),
    **_topology("create", "cluster.apply(kind"),
    **_topology("patch", "cluster.apply(kind"),
    Right("events.k8s.io", "events", "create"): Need(_RECORDER, "cluster.create(kinds.EVENT"),
    Right("events.k8s.io", "events", "patch"): Need(_RECORDER, "cluster.patch(kinds.EVENT"),
    Right("coordination.k8s.io", "leases", "get"): Need(_ELECTION, "cluster.get(kinds.LEASE"),
    Right("coordination.k8s.io", "leases", "create"): Need(_ELECTION, "cluster.create(kinds.LEASE"),
    Right("coordination.k8s.io", "leases", "update"): Need(_ELECTION, "cluster.replace(kinds.LEASE"),
}


class Refused(NamedTuple):
    """Something that the controller's account must not be able to do, anywhere."""

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    subresource: str = ""


REFUSED = (
    Refused("list", "secrets"),
    Refused("watch", "secrets"),
    Refused("list", "secrets", namespace="default"),
    Refused("create", "secrets", namespace="default"),
    Refused("create", "pods", namespace="default"),
    Refused("create", "pods", namespace="default", subresource="exec"),
    Refused("get", "pods", namespace="default", subresource="log"),
    Refused("delete", "namespaces"),
    Refused("create", "namespaces"),
    Refused("get", "configmaps", namespace="default"),
    Refused("create", "deployments", "apps", "default"),
    Refused("delete", "services", _SERVING, "default"),
    Refused("create", "brokers", _EVENTING, "default"),
    Refused("create", "rabbitmqbrokerconfigs", _EVENTING, "default"),
    Refused("patch", "brokers", _EVENTING, "default"),
    Refused("delete", "brokers", _EVENTING, "default"),
    Refused("get", "queues", "rabbitmq.com", "default"),
    Refused("create", "policies", "rabbitmq.com", "default"),
    Refused("delete", "queues", "rabbitmq.com", "default"),
    Refused("delete", "functionrepositories", _LAMBDA, "default"),
    Refused("create", "functionrepositories", _LAMBDA, "default"),
    Refused("update", "lambdafunctions", _LAMBDA, "default"),
    Refused("create", "serviceaccounts", namespace="default", subresource="token"),
    Refused("create", "clusterroles", "rbac.authorization.k8s.io"),
    Refused("bind", "clusterroles", "rbac.authorization.k8s.io"),
    Refused("impersonate", "users"),
    Refused("update", "customresourcedefinitions", "apiextensions.k8s.io"),
    Refused("update", "leases", "coordination.k8s.io", "kube-system"),
    Refused("delete", "nodes"),
)


def rules(manifests: list[Manifest]) -> Iterator[Manifest]:
    """Every rule of every role."""
    for manifest in manifests:
        if manifest["kind"] in ("Role", "ClusterRole"):
            yield from manifest["rules"]


def rights(rule: Manifest) -> Iterator[Right]:
    """A rule taken apart."""
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                yield Right(group, resource, verb)


def code_of(place: str) -> str:
    """The source of `module:name`; raises when there is none."""
    module, _, name = place.partition(":")
    return inspect.getsource(getattr(importlib.import_module(module), name))
