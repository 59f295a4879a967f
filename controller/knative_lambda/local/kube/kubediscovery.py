"""What kubectl asks a server first: its version, its groups, their resources, and their fields. Called by kubeapi.

The OpenAPI documents hold what kubectl needs and no more: for `apply`, that PATCH validates fields; for `explain`, the
schemas of CustomResourceDefinitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from knative_lambda import __version__
from knative_lambda.api.meta import Kind
from knative_lambda.cluster import paths
from knative_lambda.cluster.base import Object
from knative_lambda.local.kube.kubecatalog import Names, Resource

MAJOR, MINOR = "1", "33"
"""The Kubernetes whose behaviour the memory cluster is held to."""
_FIELD_VALIDATION = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}


def version() -> Object:
    return {
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": f"v{MAJOR}.{MINOR}.0+knative-lambda-{__version__}",
        "platform": "local",
    }


def core_versions() -> Object:
    """/api"""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups(resources: Iterable[Resource]) -> Object:
    """/apis"""
    names = sorted({resource.kind.group for resource in resources} - {""})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(resources, name) for name in names]}


def group(resources: Iterable[Resource], name: str) -> Object:
    """/apis/GROUP"""
    found = sorted({one.kind.version for one in resources if one.kind.group == name})
    versions = [{"groupVersion": f"{name}/{version}", "version": version} for version in found]
    shown: Object = {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": versions}
    return {**shown, "preferredVersion": versions[0]}


def resource_list(group_version: str, named: Iterable[tuple[Resource, Names]]) -> Object:
    """/api/v1 and /apis/GROUP/VERSION"""
    found = [one for resource, names in named for one in _resources(resource, names)]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": found}


def documents(resources: Iterable[Resource], prefix: str) -> Object:
    """/openapi/v3: where the document of each group and version is."""
    roots = sorted({paths.root(resource.kind).lstrip("/") for resource in resources})
    return {"paths": {root: {"serverRelativeURL": f"{prefix}/openapi/v3/{root}"} for root in roots}}


def document(resources: Iterable[Resource]) -> Object:
    """/openapi/v3/apis/GROUP/VERSION"""
    resources = list(resources)
    return {
        "openapi": "3.0.0",
        "info": {"title": "knative-lambda, local mode", "version": __version__},
        "paths": {path: item for resource in resources for path, item in _operations(resource)},
        "components": {"schemas": {_schema_name(one.kind): _schema(one) for one in resources}},
    }


def _resources(resource: Resource, names: Names) -> Iterator[dict[str, Any]]:
    kind = resource.kind
    shown = {
        "name": kind.plural,
        "singularName": names.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(resource.verbs),
    }
    named = {"shortNames": list(names.short), "categories": list(names.categories)}
    yield shown | {name: value for name, value in named.items() if value}
    if resource.definition.has_status:
        yield {**shown, "name": f"{kind.plural}/status", "singularName": "", "verbs": ["get", "patch", "update"]}


def _operations(resource: Resource) -> Iterator[tuple[str, Object]]:
    kind = resource.kind
    collection = paths.root(kind) + ("/namespaces/{namespace}" if kind.namespaced else "") + f"/{kind.plural}"
    answer = {"application/json": {"schema": {"$ref": f"#/components/schemas/{_schema_name(kind)}"}}}
    operation = {
        "x-kubernetes-group-version-kind": _identity(kind),
        "responses": {"200": {"description": "OK", "content": answer}},
    }
    yield collection, {"get": operation, "post": operation}
    patch = {**operation, "parameters": [_FIELD_VALIDATION]}
    yield f"{collection}/{{name}}", {"get": operation, "put": operation, "patch": patch, "delete": operation}


def _schema(resource: Resource) -> Object:
    structure = resource.definition.structure
    schema = structure.schema if structure else {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {**schema, "x-kubernetes-group-version-kind": [_identity(resource.kind)]}


def _schema_name(kind: Kind) -> str:
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind]).lstrip(".")


def _identity(kind: Kind) -> dict[str, str]:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}
