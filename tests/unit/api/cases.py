"""Good and bad documents as changes of one place, for the types, the JSON Schemas and the API server alike."""

from __future__ import annotations

from typing import Any

from tests.unit.api import documents

GOOD: dict[str, tuple[str, Any]] = {
    "version": ("spec.runtime.version", "3.12"),
    "handler": ("spec.runtime.handler", "app.main.run"),
    "handler of a directory": ("spec.runtime.handler", "src/app.handler"),
    "scaling": ("spec.scaling", {"minReplicas": 1, "maxReplicas": 1, "targetConcurrency": 1000}),
    "grace period": ("spec.scaling.scaleToZeroGracePeriod", "1h"),
    "quantities as numbers": ("spec.resources.limits", {"cpu": 1, "memory": "1Gi"}),
    "quantity with exponent": ("spec.resources.limits.memory", "1e9"),
    "fraction as text": ("spec.resources.requests.cpu", "0.01"),
    "no variables": ("spec.env", []),
    "variable": ("spec.env", [{"name": "A", "value": ""}, {"name": "B"}]),
    "secret": ("spec.env", [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}]),
    "config map": ("spec.env", [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}}]),
    "trigger on everything": ("spec.triggers", [{"broker": "default"}]),
    "trigger on a type": ("spec.triggers", [{"broker": "default", "filter": {"type": "a", "source": "b"}}]),
    "trigger on extensions": ("spec.triggers", [{"broker": "b", "filter": {"attributes": {"tenant": "acme"}}}]),
    "build": ("spec.build", {"timeout": "10s", "registry": "ghcr.io/me/hello", "pushSecret": "push"}),
    "watch paths": ("spec.build.watchPaths", ["shared", "libs/common/"]),
    "ref and path": ("spec.source.git", {"url": "ssh://git@example.com/x", "ref": "v1.2", "path": "functions/hello"}),
    "labels": ("metadata.labels", {"team": "shop"}),
    "name of 52 characters": ("metadata.name", "a" * 52),
}
"""Place and value that may stand there."""

BAD: dict[str, tuple[str, Any]] = {
    "unknown field": ("spec.scalling", {}),
    "unknown field deep down": ("spec.scaling.minReplica", 1),
    "unknown language": ("spec.runtime.language", "cobol"),
    "no language": ("spec.runtime", {"version": "3.12"}),
    "version that is a word": ("spec.runtime.version", "latest"),
    "version that is a number": ("spec.runtime.version", 3.12),
    "handler with a space": ("spec.runtime.handler", "main handler"),
    "handler out of the tree": ("spec.runtime.handler", "../main.handler"),
    "replicas as text": ("spec.scaling.minReplicas", "many"),
    "negative replicas": ("spec.scaling.minReplicas", -1),
    "no replica at all": ("spec.scaling.maxReplicas", 0),
    "grace period without unit": ("spec.scaling.scaleToZeroGracePeriod", "30"),
    "empty grace period": ("spec.scaling.scaleToZeroGracePeriod", ""),
    "grace period in days": ("spec.scaling.scaleToZeroGracePeriod", "1d"),
    "quantity without number": ("spec.resources.limits.memory", "Mi"),
    "quantity of an unknown unit": ("spec.resources.limits.memory", "64MB"),
    "quantity that is a fraction": ("spec.resources.requests.cpu", 0.01),
    "quantity that is a truth": ("spec.resources.limits.cpu", True),
    "unknown resource": ("spec.resources.limits.gpu", 1),
    "list for an object": ("spec.resources", []),
    "variable without name": ("spec.env", [{"value": "1"}]),
    "variable with a bad name": ("spec.env", [{"name": "1A", "value": "1"}]),
    "variable that is a number": ("spec.env", [{"name": "A", "value": 1}]),
    "too many variables": ("spec.env", [{"name": f"A{number}"} for number in range(101)]),
    "secret without key": ("spec.env", [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]),
    "unknown origin of a value": ("spec.env", [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]),
    "trigger without broker": ("spec.triggers", [{"filter": {"type": "a"}}]),
    "broker with a bad name": ("spec.triggers", [{"broker": "Default"}]),
    "empty filter value": ("spec.triggers", [{"broker": "b", "filter": {"type": ""}}]),
    "attribute name in capitals": ("spec.triggers", [{"broker": "b", "filter": {"attributes": {"Tenant": "a"}}}]),
    "attribute name too long": ("spec.triggers", [{"broker": "b", "filter": {"attributes": {"a" * 21: "a"}}}]),
    "attribute that is a number": ("spec.triggers", [{"broker": "b", "filter": {"attributes": {"a": 1}}}]),
    "registry with a space": ("spec.build.registry", "ghcr.io/me too"),
    "url with another scheme": ("spec.source.git.url", "file:///etc/passwd"),
    "url that runs a command": ("spec.source.git.url", "ext::sh -c id"),
    "url that is an option": ("spec.source.git.url", "--upload-pack=id"),
    "ref that is an option": ("spec.source.git.ref", "--upload-pack=id"),
    "short commit": ("spec.source.git.commit", "abc123"),
    "unknown kind of source": ("spec.source.type", "ftp"),
    "unknown member of source": ("spec.source.ftp", {}),
    "code that is missing": ("spec.source", {"type": "inline", "inline": {}}),
    "code that is too long": ("spec.source", {"type": "inline", "inline": {"code": "x" * 65537}}),
    "image with a space": ("spec.source", {"type": "image", "image": {"uri": "not an image"}}),
    "member that type names is missing": ("spec.source", {"type": "git"}),
    "member of the default type is missing": ("spec.source.type", "minio"),
    "bucket with a bad name": ("spec.source", {"type": "s3", "s3": {"bucket": "Bucket!", "key": "k"}}),
    "null": ("spec.build", None),
    "name over 52 characters": ("metadata.name", "a" * 53),
    "name that starts with a digit": ("metadata.name", "1st"),
    "name with a dot": ("metadata.name", "a.b"),
    "name that is a number": ("metadata.name", 5),
}
"""Place and value that both refuse."""

ONLY_TYPES: dict[str, tuple[str, Any, str]] = {
    "fewer than none": ("spec.scaling", {"minReplicas": 60}, "minReplicas (60) must not exceed maxReplicas (50)"),
    "grace period of hours": ("spec.scaling.scaleToZeroGracePeriod", "2h", "between 0s and 1h"),
    "build of seconds": ("spec.build.timeout", "9s", "between 10s and 6h"),
    "build of a day": ("spec.build.timeout", "24h", "between 10s and 6h"),
    "request over its limit": ("spec.resources.requests.memory", "65Mi", "requests.memory (65Mi) must not exceed"),
    "limit under its request": ("spec.resources.limits.cpu", "20m", "requests.cpu (25m) must not exceed limits.cpu"),
    "value and its origin": (
        "spec.env",
        [{"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "value and valueFrom are exclusive",
    ),
    "two origins": (
        "spec.env",
        [
            {
                "name": "A",
                "valueFrom": {
                    "secretKeyRef": {"name": "s", "key": "k"},
                    "configMapKeyRef": {"name": "s", "key": "k"},
                },
            }
        ],
        "exactly one of secretKeyRef and configMapKeyRef",
    ),
    "no origin": ("spec.env", [{"name": "A", "valueFrom": {}}], "exactly one of secretKeyRef and configMapKeyRef"),
    "variable of Knative": ("spec.env", [{"name": "PORT", "value": "1"}], "Knative sets PORT itself"),
    "variable twice": ("spec.env", [{"name": "A"}, {"name": "A"}], "env names must be unique; twice: A"),
    "second member of source": ("spec.source.inline", {"code": "x"}, "type is git, set are git, inline"),
    "keys of minio": (
        "spec.source",
        {"type": "minio", "minio": {**documents.SOURCES["minio"], "accessKey": "a", "secretKey": "b"}},
        "put accessKey and secretKey into a Secret and name it in secretRef",
    ),
    "key of s3": (
        "spec.source",
        {"type": "s3", "s3": {**documents.SOURCES["s3"], "secretKey": "b"}},
        "put accessKey and secretKey into a Secret and name it in secretRef",
    ),
    "password in a url": ("spec.source.git.url", "https://me:pw@example.com/x", "credentials do not belong in a URL"),
    "token in a url": ("spec.source.git.url", "https://token@example.com/x", "credentials do not belong in a URL"),
    "password of ssh": ("spec.source.git.url", "ssh://git:pw@example.com/x", "credentials do not belong in a URL"),
    "path upwards": ("spec.source.git.path", "a/../../b", "must not leave the repository"),
    "path from the root": ("spec.source.git.path", "/etc", "must not leave the repository"),
    "path that is an option": ("spec.source.git.path", "-rf", "must not leave the repository"),
    "path of another system": ("spec.source.git.path", "a\\b", "must not leave the repository"),
    "watched path upwards": ("spec.build.watchPaths", ["../secrets"], "must not leave the repository"),
}
"""Place, value, and what the types say: rules that JSON Schema cannot express, and CEL tells the API server."""

REPOSITORIES: dict[str, tuple[str, Any, bool]] = {
    "branch": ("spec.ref", {"branch": "main"}, True),
    "commit": ("spec.ref", {"commit": "a" * 40}, True),
    "short commit": ("spec.ref", {"commit": "abc"}, False),
    "branch that is an option": ("spec.ref", {"branch": "-f"}, False),
    "interval": ("spec.interval", "5m", True),
    "interval without unit": ("spec.interval", "5", False),
    "namespace": ("spec.targetNamespace", "shop", True),
    "namespace with a dot": ("spec.targetNamespace", "a.b", False),
    "unknown field": ("spec.intervall", "5m", False),
    "webhook without secret": ("spec.webhook", {}, False),
    "no url": ("spec.url", "", False),
    "file": ("spec.url", "file:///srv/git", False),
    "suspended": ("spec.suspend", True, True),
    "suspended as text": ("spec.suspend", "maybe", False),
}
"""Place, value, and whether a FunctionRepository may have it there."""

REPOSITORY_RULES: list[tuple[str, Any, str]] = [
    ("spec.ref", {"branch": "a", "tag": "b"}, "at most one of branch, tag and commit"),
    ("spec.interval", "1s", "between 5s and 24h"),
    ("spec.timeout", "2h", "between 1s and 30m"),
    ("spec.path", "../other", "must not leave the repository"),
    ("spec.url", "https://me:pw@example.com/x", "credentials do not belong in a URL"),
]
"""Place, value, and what the types and CEL say."""
