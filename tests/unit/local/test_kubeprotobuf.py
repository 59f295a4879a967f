"""What kubectl 1.33 really sent for `kubectl create secret|configmap|namespace|job`, and what could be sent instead."""

from __future__ import annotations

import random

import pytest

from knative_lambda.local.kube import kubeprotobuf
from knative_lambda.local.kube.kubeprotobuf import Unreadable

SECRET = (
    b'k8s\x00\n\x0c\n\x02v1\x12\x06Secret\x12*\n\x11\n\x01s\x12\x00\x1a\x00"\x00*\x002\x008\x00B\x00'
    b'\x12\x07\n\x01b\x12\x02yy\x12\n\n\x05token\x12\x01x\x1a\x00\x1a\x00"\x00'
)
CONFIG_MAP = (
    b'k8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x12\x1b\n\x11\n\x01c\x12\x00\x1a\x00"\x00*\x002\x008\x00B\x00'
    b'\x12\x06\n\x01a\x12\x01b\x1a\x00"\x00'
)
NAMESPACE = (
    b'k8s\x00\n\x0f\n\x02v1\x12\tNamespace\x12\x19\n\x11\n\x01x\x12\x00\x1a\x00"\x00*\x002\x008\x00B\x00'
    b'\x12\x00\x1a\x02\n\x00\x1a\x00"\x00'
)
JOB = (
    b'k8s\x00\n\x0f\n\x08batch/v1\x12\x03Job\x12\x13\n\x11\n\x01j\x12\x00\x1a\x00"\x00*\x002\x008\x00B\x00\x1a\x00"\x00'
)


def of_config_map(raw: bytes) -> bytes:
    return b"k8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x12" + bytes([len(raw)]) + raw


def test_a_secret_is_read() -> None:
    assert kubeprotobuf.decoded(SECRET) == {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"b": "eXk=", "token": "eA=="},
    }  # fmt: skip


def test_a_config_map_is_read() -> None:
    assert kubeprotobuf.decoded(CONFIG_MAP) == {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"},
    }  # fmt: skip


def test_a_namespace_is_read() -> None:
    assert kubeprotobuf.decoded(NAMESPACE) == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}


def test_labels_finalizers_and_flags_are_read() -> None:
    found = kubeprotobuf.decoded(of_config_map(b"\n\x11\n\x01cZ\x06\n\x01l\x12\x01mr\x01fr\x01g\x20\x01"))
    assert found["metadata"] == {"name": "c", "labels": {"l": "m"}, "finalizers": ["f", "g"]}
    assert found["immutable"] is True


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not an object in the binary form"),
        (b'{"kind":"Secret"}', "not an object in the binary form"),
        (JOB, "only Secrets, ConfigMaps and Namespaces"),
        (b"k8s\x00", "only Secrets, ConfigMaps and Namespaces"),
        (SECRET[:30], "broken"),
        (b"k8s\x00" + b"\xff" * 20, "broken"),
        (b"k8s\x00\n\xff\xff\xff\xff\xff\x7f", "broken"),
        (b"k8s\x00\x0d\x00\x00\x00\x00", "broken"),
        (of_config_map(b"\n\x03\n\x01\xff"), "not UTF-8"),
        (of_config_map(b"\x08\x05"), "broken"),
        (of_config_map(b"\n\x04j\x02\n\x00"), "field 13"),
        (of_config_map(b"\x7a\x01x"), "field 15"),
    ],
)
def test_what_would_be_misread_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(Unreadable, match=complaint):
        kubeprotobuf.decoded(data)


def test_no_damage_makes_anything_but_an_object_or_a_refusal() -> None:
    dice = random.Random(7)
    outcomes = set()
    for _ in range(5000):
        damaged = bytearray(dice.choice([SECRET, CONFIG_MAP, NAMESPACE]))
        for _ in range(dice.randint(1, 3)):
            damaged[dice.randrange(4, len(damaged))] = dice.randrange(256)
        try:
            outcomes.add(type(kubeprotobuf.decoded(bytes(damaged))))
        except Unreadable:
            outcomes.add(Unreadable)
    assert outcomes == {dict, Unreadable}
