"""Which addresses a user's word may lead us to."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from knative_lambda.api.conditions import Reason
from knative_lambda.sources.base import SourceError
from knative_lambda.sources.dial import DialPolicy

NAMES = {
    "git.example.com": ["203.0.113.5"],
    "in.cluster": ["10.96.3.4"],
    "both.example.com": ["203.0.113.5", "127.0.0.1"],
    "local.example.com": ["127.0.0.1"],
    "six.example.com": ["2001:db8::5"],
    "api.internal": ["10.0.0.1"],
}


def lookup(host: str) -> Sequence[str]:
    if host not in NAMES:
        raise OSError("no such host")
    return NAMES[host]


def refusal(url: str, *allowed: str, forbidden: Sequence[str] = ()) -> Reason | None:
    try:
        DialPolicy(allowed, forbidden=forbidden, lookup=lookup).check(url)
    except SourceError as error:
        return error.reason
    return None


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.com/a.git",
        "https://git.example.com:8443/a.git",
        "https://GIT.EXAMPLE.COM./a.git",
        "ssh://git@git.example.com/a.git",
        "http://in.cluster/a.git",
        "http://192.168.7.7/a.git",
        "http://[fd12:3456::7]/a.git",
        "https://six.example.com/a.git",
    ],
)
def test_public_and_private_networks_may_be_called(url: str) -> None:
    assert refusal(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://127.1.2.3:8080/", "http://[::1]/", "http://0.0.0.0/", "http://0.1.2.3/",
        "http://[::]/", "http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://[fd00:ec2::254]/",
        "http://100.100.100.200/", "http://168.63.129.16/", "http://192.0.0.192/", "http://224.0.0.1/",
        "http://[ff02::1]/", "http://255.255.255.255/", "http://240.0.0.1/", "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:169.254.169.254]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/",
        "https://local.example.com/", "https://both.example.com/", "http://metadata.google.internal/",
        "http://METADATA.google.internal./", "https://kubernetes.default.svc/", "https://kubernetes/api",
        "https:///path", "not-a-url", "http://[::1", "",
    ],
)  # fmt: skip
def test_what_is_nobodys_business_is_refused(url: str) -> None:
    assert refusal(url) is Reason.SOURCE_REFUSED


def test_the_api_server_is_refused_by_its_address_and_by_names_that_lead_there() -> None:
    assert refusal("https://10.0.0.1:6443/", forbidden=["10.0.0.1"]) is Reason.SOURCE_REFUSED
    assert refusal("https://api.internal/", forbidden=["10.0.0.1"]) is Reason.SOURCE_REFUSED
    assert refusal("https://api.internal/", forbidden=["api.internal"]) is Reason.SOURCE_REFUSED
    assert refusal("https://in.cluster/", forbidden=["10.0.0.1"]) is None


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "local.example.com", "LOCAL.example.com."])
def test_the_operator_can_allow_a_network_or_a_host(allowed: str) -> None:
    assert refusal("http://local.example.com/", allowed) is None


def test_allowing_one_address_allows_no_other() -> None:
    assert refusal("http://127.0.0.2/", "127.0.0.1") is Reason.SOURCE_REFUSED
    assert refusal("http://local.example.com.evil.example/", "local.example.com") is Reason.UNREACHABLE


def test_a_host_that_is_allowed_by_name_is_not_looked_up() -> None:
    assert DialPolicy(["proxied.example.com"], lookup=lookup).addresses("https://proxied.example.com/") == ()


def test_addresses_are_those_that_were_checked() -> None:
    assert DialPolicy(lookup=lookup).addresses("https://git.example.com/") == ("203.0.113.5",)


def test_a_name_without_address_may_have_one_later() -> None:
    with pytest.raises(SourceError) as caught:
        DialPolicy(lookup=lookup).check("https://absent.example.com/")
    assert (caught.value.reason, caught.value.retry) == (Reason.UNREACHABLE, True)


def test_a_look_up_that_hangs_is_given_up() -> None:
    release = threading.Event()

    def hang(_: str) -> Sequence[str]:
        release.wait(10)
        return []

    with pytest.raises(SourceError, match="within") as caught:
        DialPolicy(lookup=hang, seconds=0.05).check("https://slow.example.com/")
    release.set()
    assert caught.value.retry


def test_refusal_says_why_and_is_empty_for_what_may_be_called() -> None:
    policy = DialPolicy(lookup=lookup)
    assert policy.refusal("https://git.example.com/") == ""
    assert "loopback" in policy.refusal("http://127.0.0.1/")


def test_the_systems_resolver_sees_through_odd_spellings_of_loopback() -> None:
    for host in ("2130706433", "0x7f.1", "0177.0.0.1", "localhost"):
        assert refusal_of_system(f"http://{host}/") in (Reason.SOURCE_REFUSED, Reason.UNREACHABLE)


def refusal_of_system(url: str) -> Reason | None:
    try:
        DialPolicy().check(url)
    except SourceError as error:
        return error.reason
    return None


@pytest.mark.parametrize("entry", ["", " ", "10.0.0.0/99", "a/b"])
def test_an_entry_that_is_neither_network_nor_host_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        DialPolicy([entry])
