"""Which addresses may be called on a user's word. Everybody who can write a LambdaFunction can name a host.

Refused: loopback, link-local, unspecified, multicast and reserved addresses, the clouds' metadata services, and the
Kubernetes API server. Private networks (RFC 1918, fc00::/7) are allowed, for that is where git servers inside a cluster
live. `allowed` (networks and host names) wins over every refusal; a host that is allowed by its name is not looked up,
which also serves a cluster whose way out is a proxy that knows more names than we do.
Called by git, registry and gitsync through wiring.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

from knative_lambda.api.conditions import Reason
from knative_lambda.sources.base import SourceError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Lookup = Callable[[str], Sequence[str]]
"""Host name -> addresses; raises OSError when it has none. Blocking."""

API_SERVER_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
_METADATA_NAMES = ("metadata.google.internal", "metadata", "instance-data", "instance-data.ec2.internal")
_METADATA = tuple(
    ipaddress.ip_network(network)
    for network in ("fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "0.0.0.0/8")
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class DialPolicy:
    """Refuses URLs by where they really lead. Safe for threads."""

    def __init__(
        self,
        allowed: Iterable[str] = (),
        *,
        forbidden: Iterable[str] = (),
        lookup: Lookup | None = None,
        seconds: float = 5.0,
    ) -> None:
        """`allowed` and `forbidden` hold addresses, networks (CIDR) and host names; wiring forbids the API server's.

        Raises ValueError for an entry that is none of them. `seconds` bounds one look-up.
        """
        self._networks, self._hosts = _sorted(allowed)
        self._forbidden_networks, self._forbidden_hosts = _sorted([*forbidden, *API_SERVER_NAMES, *_METADATA_NAMES])
        self._lookup = lookup or system_lookup
        self._seconds = seconds

    def check(self, url: str) -> None:
        """Raises SourceError: SOURCE_REFUSED for where we must not go, UNREACHABLE for a name that has no address."""
        self.addresses(url)

    def refusal(self, url: str) -> str:
        """Why the URL must not be called; empty when it may. For callers that know no SourceError."""
        try:
            self.check(url)
        except SourceError as error:
            return error.message
        return ""

    def addresses(self, url: str) -> tuple[str, ...]:
        """Where the URL leads, checked, so that the caller can hold its client to it; empty for an allowed name."""
        host = _host(url)
        if host in self._hosts:
            return ()
        literal = _literal(host)
        if literal is None and host in self._forbidden_hosts:
            raise SourceError(Reason.SOURCE_REFUSED, f"host {host} must not be called from here")
        found = (literal,) if literal is not None else self._looked_up(host)
        for address in found:
            self._check_address(host, address)
        return tuple(str(address) for address in found)

    def _check_address(self, host: str, address: Address) -> None:
        real = _embedded(address)
        if any(real in network or address in network for network in self._networks):
            return
        why = _kind(real)
        if not why and any(real in network for network in self._forbidden_networks):
            why = "is forbidden"
        if why:
            raise SourceError(
                Reason.SOURCE_REFUSED,
                f"host {host} leads to {address}, which {why}; the platform's operator can allow it",
            )

    def _looked_up(self, host: str) -> tuple[Address, ...]:
        """In a thread of its own, for the system's look-up knows no timeout."""
        answer: queue.SimpleQueue[Sequence[str] | OSError] = queue.SimpleQueue()
        threading.Thread(target=_ask, args=(self._lookup, host, answer), daemon=True, name="dial-lookup").start()
        try:
            found = answer.get(timeout=self._seconds)
        except queue.Empty:
            words = f"no address of host {host} within {self._seconds:g} s"
            raise SourceError(Reason.UNREACHABLE, words, retry=True) from None
        if isinstance(found, OSError) or not found:
            raise SourceError(Reason.UNREACHABLE, f"host {host} has no address", retry=True)
        return tuple(ipaddress.ip_address(text) for text in found)


def system_lookup(host: str) -> Sequence[str]:
    """Addresses as the machine's resolver gives them, each once."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def _ask(lookup: Lookup, host: str, answer: queue.SimpleQueue[Sequence[str] | OSError]) -> None:
    try:
        answer.put(lookup(host))
    except (OSError, UnicodeError) as error:
        answer.put(error if isinstance(error, OSError) else OSError(str(error)))


def _sorted(entries: Iterable[str]) -> tuple[tuple[Network, ...], frozenset[str]]:
    networks: list[Network] = []
    hosts: set[str] = set()
    for entry in entries:
        try:
            networks.append(ipaddress.ip_network(entry.strip().strip("[]"), strict=False))
        except ValueError:
            if "/" in entry or not entry.strip():
                raise ValueError(f"{entry!r} is neither a network, an address nor a host name") from None
            hosts.add(_normal(entry.strip()))
    return tuple(networks), frozenset(hosts)


def _host(url: str) -> str:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host:
        raise SourceError(Reason.SOURCE_REFUSED, "the address names no host")
    return _normal(host)


def _normal(host: str) -> str:
    return host.lower().rstrip(".")


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _kind(address: Address) -> str:
    """What makes an address nobody's business; empty for the others."""
    if any(address in network for network in _METADATA):
        return "is a metadata service or this host"
    kinds = {
        "is loopback": address.is_loopback,
        "is link-local": address.is_link_local,
        "is unspecified": address.is_unspecified,
        "is multicast": address.is_multicast,
        "is reserved": address.is_reserved,
    }
    return next((words for words, holds in kinds.items() if holds), "")
