"""Where KubeCluster.connect finds the API server and its credentials, and how it renews them."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes.aio.config import incluster_config

from knative_lambda.api.kinds import JOB
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Forbidden, Invalid, Unavailable
from knative_lambda.cluster.kube import KubeCluster
from knative_lambda.kit.clock import ManualClock, SystemClock

pytestmark = pytest.mark.unit

KEY = Key("ns", "a")


class Api:
    """An HTTPS server that takes only one token, and counts its requests."""

    def __init__(self, folder: Path) -> None:
        self.token = "first"
        self.seen: list[str] = []
        self.ca = folder / "ca.crt"
        self.key = folder / "ca.key"
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append(request.headers.get("Authorization", ""))
        if self.seen[-1].lower() != f"bearer {self.token}":
            return web.json_response({"kind": "Status", "message": "Unauthorized"}, status=401)
        return web.json_response({"metadata": {"name": "a"}})

    def make_certificate(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    served = Api(tmp_path)
    served.make_certificate()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(served.ca, served.key)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    served.port = runner.addresses[0][1]
    yield served
    await runner.cleanup()


def kubeconfig(api: Api, folder: Path, *, user: dict[str, Any], contexts: tuple[str, ...] = ("here",)) -> Path:
    path = folder / "config"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": contexts[0],
        "clusters": [{"name": "c", "cluster": {"server": api.url, "certificate-authority": "ca.crt"}}],
        "users": [{"name": "u", "user": user}, {"name": "wrong", "user": {"token": "wrong"}}],
        "contexts": [
            {"name": name, "context": {"cluster": "c", "user": "wrong" if name == "elsewhere" else "u"}}
            for name in contexts
        ],
    }
    path.write_text(yaml.safe_dump(document))
    return path


async def test_a_kubeconfig_names_server_certificate_and_token(api: Api, tmp_path: Path) -> None:
    path = kubeconfig(api, tmp_path, user={"token": "first"}, contexts=("elsewhere", "here"))
    before = path.read_text()
    cluster = await KubeCluster.connect(kubeconfig=path, context="here", clock=SystemClock())
    assert (await cluster.get(JOB, KEY))["metadata"]["name"] == "a"
    await cluster.close()
    other = await KubeCluster.connect(kubeconfig=path, clock=SystemClock())
    with pytest.raises(Forbidden):
        await other.get(JOB, KEY)
    await other.close()
    assert api.seen == ["Bearer first", "Bearer wrong"]
    assert path.read_text() == before


async def test_without_a_path_the_environment_names_the_kubeconfig(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}:{kubeconfig(api, tmp_path, user={'token': 'first'})}")
    cluster = await KubeCluster.connect(clock=SystemClock())
    assert await cluster.get(JOB, KEY)
    await cluster.close()


async def test_a_server_with_another_certificate_is_not_trusted(api: Api, tmp_path: Path) -> None:
    path = kubeconfig(api, tmp_path, user={"token": "first"})
    api.make_certificate()
    cluster = await KubeCluster.connect(kubeconfig=path, clock=SystemClock())
    with pytest.raises(Unavailable, match="certificate"):
        await cluster.get(JOB, KEY)
    await cluster.close()
    assert api.seen == []


async def test_a_token_file_is_read_again_every_minute(api: Api, tmp_path: Path) -> None:
    clock = ManualClock()
    token = tmp_path / "token"
    token.write_text("first")
    path = kubeconfig(api, tmp_path, user={"tokenFile": str(token)})
    cluster = await KubeCluster.connect(kubeconfig=path, clock=clock)
    await cluster.get(JOB, KEY)
    token.write_text("second")
    await cluster.get(JOB, KEY)
    await clock.advance(61)
    await cluster.get(JOB, KEY)
    await asyncio.sleep(0.1)
    api.token = "second"
    await cluster.get(JOB, KEY)
    await cluster.close()
    assert api.seen[-1] == "Bearer second"
    assert api.seen.count("Bearer first") == 3


async def test_a_rejected_token_is_read_again_at_once(api: Api, tmp_path: Path) -> None:
    clock = ManualClock()
    token = tmp_path / "token"
    token.write_text("first")
    path = kubeconfig(api, tmp_path, user={"tokenFile": str(token)})
    cluster = await KubeCluster.connect(kubeconfig=path, clock=clock)
    await clock.advance(10)
    api.token = "second"
    token.write_text("second")
    await asyncio.gather(*(cluster.get(JOB, KEY) for _ in range(5)))
    api.token = "third"
    with pytest.raises(Forbidden):
        await cluster.get(JOB, KEY)
    await cluster.close()
    assert api.seen.count("Bearer second") == 6


async def test_credentials_that_cannot_be_read_again_are_used_until_refused(api: Api, tmp_path: Path) -> None:
    clock = ManualClock()
    token = tmp_path / "token"
    token.write_text("first")
    path = kubeconfig(api, tmp_path, user={"tokenFile": str(token)})
    cluster = await KubeCluster.connect(kubeconfig=path, clock=clock)
    token.unlink()
    await clock.advance(61)
    await cluster.get(JOB, KEY)
    await asyncio.sleep(0.1)
    await clock.advance(61)
    await cluster.get(JOB, KEY)
    api.token = "second"
    with pytest.raises(Forbidden):
        await cluster.get(JOB, KEY)
    await cluster.close()
    assert set(api.seen) == {"Bearer first"}


async def test_the_certificate_may_be_for_another_name_when_the_kubeconfig_says_so(api: Api, tmp_path: Path) -> None:
    path = kubeconfig(api, tmp_path, user={"token": "first"})
    document = yaml.safe_load(path.read_text())
    document["clusters"][0]["cluster"]["server"] = f"https://localhost:{api.port}"
    path.write_text(yaml.safe_dump(document))
    cluster = await KubeCluster.connect(kubeconfig=path, clock=SystemClock())
    with pytest.raises(Unavailable):
        await cluster.get(JOB, KEY)
    await cluster.close()
    document["clusters"][0]["cluster"]["tls-server-name"] = "127.0.0.1"
    path.write_text(yaml.safe_dump(document))
    cluster = await KubeCluster.connect(kubeconfig=path, clock=SystemClock())
    assert await cluster.get(JOB, KEY)
    await cluster.close()


async def test_a_credential_plugin_runs_again_when_its_token_is_refused(api: Api, tmp_path: Path) -> None:
    clock = ManualClock()
    runs = tmp_path / "runs"
    plugin = tmp_path / "plugin.py"
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    plugin.write_text(
        "import json, pathlib\n"
        f"runs = pathlib.Path({str(runs)!r})\n"
        "count = len(runs.read_text()) if runs.exists() else 0\n"
        "runs.write_text('x' * (count + 1))\n"
        f"print(json.dumps({answer!r} | {{'status': {{'token': ['first', 'second'][count]}}}}))\n"
    )
    command = {"apiVersion": answer["apiVersion"], "command": sys.executable, "args": [str(plugin)]}
    cluster = await KubeCluster.connect(kubeconfig=kubeconfig(api, tmp_path, user={"exec": command}), clock=clock)
    await cluster.get(JOB, KEY)
    await clock.advance(3600)
    await cluster.get(JOB, KEY)
    assert runs.read_text() == "x"
    api.token = "second"
    await cluster.get(JOB, KEY)
    await cluster.close()
    assert runs.read_text() == "xx"


async def test_in_a_pod_the_mounted_token_is_followed(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    token = tmp_path / "token"
    token.write_text("first\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(api.ca))
    cluster = await KubeCluster.connect(clock=clock)
    await cluster.get(JOB, KEY)
    await clock.advance(30)
    api.token = "second"
    token.write_text("second")
    await cluster.get(JOB, KEY)
    await cluster.close()
    assert [value.lower() for value in api.seen] == ["bearer first", "bearer first", "bearer second"]


@pytest.mark.parametrize(
    "content", ["", "[]", "a: b", "{", json.dumps({"current-context": "x", "contexts": [], "clusters": []})]
)
async def test_a_kubeconfig_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(Invalid, match="configuration of the API server"):
        await KubeCluster.connect(kubeconfig=path, clock=SystemClock())


async def test_an_absent_kubeconfig_an_absent_context_and_a_broken_plugin_are_refused(api: Api, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no kubeconfig"):
        await KubeCluster.connect(kubeconfig=tmp_path / "absent", clock=SystemClock())
    path = kubeconfig(api, tmp_path, user={"token": "first"})
    with pytest.raises(Invalid, match="nowhere"):
        await KubeCluster.connect(kubeconfig=path, context="nowhere", clock=SystemClock())
    broken = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": ["-c", "1/0"]}
    path = kubeconfig(api, tmp_path, user={"exec": broken})
    with pytest.raises(Invalid, match="plugin"):
        await KubeCluster.connect(kubeconfig=path, clock=SystemClock())
