"""Who may speak to the local Kubernetes API: whoever can read its kubeconfig, and nobody else.

Not a page in a browser, not another user of the machine and not a function. kubectl sends a token over TLS only, so
the API has a certificate of its own; both are made anew at every start. Called by dev.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import os
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from knative_lambda.kit.clock import Clock

CONTEXT = "knative-lambda-local"
"""Name of the context, the cluster and the user in the kubeconfig."""
PREFIX = "/kube"
_LIFE = timedelta(days=365)
_SLACK = timedelta(hours=1)
"""Before now, for a clock that is set back."""
_LOOPBACK = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Access:
    """What the server holds against a request, and shows of itself."""

    token: str = field(repr=False)
    certificate: Path
    key: Path
    """PEM files, for the listener."""

    def admits(self, authorization: str) -> bool:
        """Whether that Authorization header holds the token; in a time that tells nothing."""
        scheme, _, sent = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(sent.strip().encode(), self.token.encode())


def create(folder: Path, *, clock: Clock) -> Access:
    """A new token and a new certificate, in a folder that only its owner may enter."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    access = Access(secrets.token_urlsafe(32), folder / "kubeapi.crt", folder / "kubeapi.key")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(access.key, pem)
    write_private(access.certificate, _certificate(key, clock).public_bytes(serialization.Encoding.PEM))
    return access


def kubeconfig(url: str, access: Access, *, namespace: str = "default") -> str:
    """Text of a kubeconfig for the API below `url` (https, host and port)."""
    cluster = {
        "server": url.rstrip("/") + PREFIX,
        "certificate-authority-data": base64.b64encode(access.certificate.read_bytes()).decode(),
    }
    context = {"cluster": CONTEXT, "user": CONTEXT, "namespace": namespace}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": CONTEXT,
            "clusters": [{"name": CONTEXT, "cluster": cluster}],
            "contexts": [{"name": CONTEXT, "context": context}],
            "users": [{"name": CONTEXT, "user": {"token": access.token}}],
        },
        sort_keys=False,
    )


def write_private(path: Path, data: bytes) -> None:
    """Replaces the file at once; it is never readable for others, not even while it is written."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    draft.replace(path)


def _certificate(key: ec.EllipticCurvePrivateKey, clock: Clock) -> x509.Certificate:
    """Signed by itself; good for loopback only."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, CONTEXT)])
    addresses = [x509.IPAddress(ipaddress.ip_address(one)) for one in _LOOPBACK]
    now = clock.now()
    return (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([*addresses, x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
