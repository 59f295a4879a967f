"""Values of a function's environment that lie in Secrets and ConfigMaps."""

from __future__ import annotations

import base64

import pytest

from knative_lambda.api import kinds
from knative_lambda.api.meta import Kind
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import ManualClock
from knative_lambda.local.serving.revisions import Reference, Variable
from knative_lambda.local.serving.variables import ConfigurationError, resolve

pytestmark = pytest.mark.unit


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


async def resolved(kind: Kind, part: str, value: str, *, key: str = "k", optional: bool = False) -> dict[str, str]:
    """With one object in namespace ns, named o, that keeps `value` under `k`."""
    cluster = MemoryCluster(clock=ManualClock())
    await cluster.create(kind, {"metadata": {"name": "o", "namespace": "ns"}, part: {"k": value}})
    reference = Reference("o", key, optional)
    variable = Variable("A", secret=reference) if kind == kinds.SECRET else Variable("A", config_map=reference)
    return await resolve(cluster, "ns", [Variable("PLAIN", "p"), variable])


async def test_values_come_from_secrets_and_config_maps() -> None:
    assert await resolved(kinds.SECRET, "data", encoded(b"hidden")) == {"PLAIN": "p", "A": "hidden"}
    assert await resolved(kinds.SECRET, "stringData", "hidden") == {"PLAIN": "p", "A": "hidden"}
    assert await resolved(kinds.CONFIG_MAP, "data", "aGk=") == {"PLAIN": "p", "A": "aGk="}


async def test_what_is_optional_may_be_missing() -> None:
    assert await resolved(kinds.SECRET, "data", "", key="other", optional=True) == {"PLAIN": "p"}


@pytest.mark.parametrize(
    ("kind", "part", "value", "key", "words"),
    [
        (kinds.SECRET, "data", "", "other", "couldn't find key other in Secret ns/o"),
        (kinds.CONFIG_MAP, "data", "", "other", "couldn't find key other in ConfigMap ns/o"),
        (kinds.SECRET, "data", "no base64!", "k", "key k of Secret o is not text"),
        (kinds.SECRET, "data", encoded(b"\xff"), "k", "key k of Secret o is not text"),
        (kinds.SECRET, "data", encoded(b"a\0B=evil"), "k", "NUL"),
        (kinds.SECRET, "stringData", "a\0B=evil", "k", "NUL"),
        (kinds.CONFIG_MAP, "data", "a\0B=evil", "k", "NUL"),
    ],
)
async def test_what_cannot_be_given_is_told_without_its_value(
    kind: Kind, part: str, value: str, key: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as told:
        await resolved(kind, part, value, key=key)
    assert "evil" not in str(told.value)
