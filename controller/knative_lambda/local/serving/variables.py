"""The environment of a function's process: nothing of ours but what Knative promises. Called by instance."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import Cluster, NotFound
from knative_lambda.local.serving.processes import PATH
from knative_lambda.local.serving.revisions import Reference, Variable


class ConfigurationError(Exception):
    """A Secret or ConfigMap that is not there; the text is safe to show, and is a kubelet's."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What Knative tells every container of itself."""

    service: str
    revision: str
    port: int


def environment(
    identity: Identity, *, image: Mapping[str, str], function: Mapping[str, str], folder: Path
) -> dict[str, str]:
    """The image's variables, over them the function's, over them what the server itself must decide."""
    return {
        "PATH": PATH,
        **image,
        **function,
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "PORT": str(identity.port),
        "K_SERVICE": identity.service,
        "K_CONFIGURATION": identity.service,
        "K_REVISION": identity.revision,
    }


async def resolve(cluster: Cluster, namespace: str, variables: Iterable[Variable]) -> dict[str, str]:
    """Values, with those of Secrets and ConfigMaps read now. Raises ConfigurationError, or ClusterError."""
    found: dict[str, str] = {}
    for variable in variables:
        value = await _value(cluster, namespace, variable)
        if value is not None:
            found[variable.name] = value
    return found


async def _value(cluster: Cluster, namespace: str, variable: Variable) -> str | None:
    """None leaves the variable out: its reference is optional and points at nothing."""
    if variable.secret is not None:
        return await _kept(cluster, namespace, kinds.SECRET, variable.secret)
    if variable.config_map is not None:
        return await _kept(cluster, namespace, kinds.CONFIG_MAP, variable.config_map)
    return variable.value


async def _kept(cluster: Cluster, namespace: str, kind: Kind, reference: Reference) -> str | None:
    try:
        obj = await cluster.get(kind, Key(namespace, reference.name))
    except NotFound:
        if reference.optional:
            return None
        raise ConfigurationError(f'{kind.kind.lower()} "{reference.name}" not found') from None
    plain, data = obj.get("stringData") or {}, obj.get("data") or {}
    if reference.key in plain:  # the memory cluster keeps it as it was sent
        return _text(reference, kind, str(plain[reference.key]), encoded=False)
    if reference.key in data:
        return _text(reference, kind, str(data[reference.key]), encoded=kind == kinds.SECRET)
    if reference.optional:
        return None
    raise ConfigurationError(f"couldn't find key {reference.key} in {kind.kind} {namespace}/{reference.name}")


def _text(reference: Reference, kind: Kind, value: str, *, encoded: bool) -> str:
    """A NUL would end the value, and begin another, for whoever reads the environment."""
    where = f"key {reference.key} of {kind.kind} {reference.name}"
    try:
        text = base64.b64decode(value, validate=True).decode() if encoded else value
    except (binascii.Error, UnicodeDecodeError):
        raise ConfigurationError(f"{where} is not text") from None
    if "\0" in text:
        raise ConfigurationError(f"{where} has a NUL character in it")
    return text
