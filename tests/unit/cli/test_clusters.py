"""Which cluster a command takes: an option, the kubeconfig, the local mode that runs; and what it says without any."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from knative_lambda.cli import clusters
from knative_lambda.cli.clusters import Site
from knative_lambda.cli.failures import Fault
from knative_lambda.kit.clock import SystemClock
from knative_lambda.local import state
from knative_lambda.local.kube import kubeaccess
from tests.unit.cli.terminal import Terminal

KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: here
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
contexts: [{name: here, context: {cluster: c, user: u, namespace: shop}}]
users: [{name: u, user: {}}]
"""


@pytest.fixture(autouse=True)
def cache(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(terminal.here / "cache"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture
def running() -> Iterator[list[int]]:
    """Descriptors of the locks that a test holds, as local modes do."""
    held: list[int] = []
    yield held
    for descriptor in held:
        os.close(descriptor)


def _start(folder: Path, held: list[int], *, kubeconfig: bool = True) -> Path:
    held.append(state.hold(folder))
    if kubeconfig:
        (folder / state.KUBECONFIG).write_text(KUBECONFIG)
    return folder


def test_without_anything_the_error_names_both_ways(terminal: Terminal) -> None:
    ended = terminal.run("list")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "no kubeconfig at $KUBECONFIG or ~/.kube/config, and no local mode runs" in ended.err
    assert "--kubeconfig FILE" in ended.err
    assert "kn-lambda dev REPO" in ended.err


def test_the_only_local_mode_is_taken_when_there_is_no_kubeconfig(running: list[int]) -> None:
    shop = _start(state.default_state("shop"), running)
    assert clusters.choose() == clusters.choose(local=True) == Site(shop / "kubeconfig", None, shop)
    assert clusters.choose().namespace(None) == "shop"


def test_a_kubeconfig_goes_before_a_local_mode_unless_that_is_asked_for(terminal: Terminal, running: list[int]) -> None:
    shop = _start(state.default_state("shop"), running)
    terminal.file(".kube/config", KUBECONFIG)
    assert clusters.choose() == Site()
    assert clusters.choose(local=True).state == shop


def test_of_several_local_modes_one_must_be_named(running: list[int]) -> None:
    one, two = (_start(state.default_state(name), running) for name in ("one", "two"))
    with pytest.raises(Fault, match="2 local modes run; name one with --state-dir") as caught:
        clusters.choose(local=True)
    assert str(one) in str(caught.value)
    assert clusters.choose(state_dir=two).state == two


def test_a_state_folder_must_be_one_that_runs(terminal: Terminal, running: list[int]) -> None:
    with pytest.raises(Fault, match="no local mode runs with the state folder"):
        clusters.choose(state_dir=terminal.here)
    starting = _start(terminal.here / "starting", running, kubeconfig=False)
    with pytest.raises(Fault, match="is still starting"):
        clusters.choose(state_dir=starting)
    with pytest.raises(Fault, match="no local mode runs with a default state folder: give --state-dir DIR"):
        clusters.choose(local=True)


def test_who_names_a_local_modes_kubeconfig_means_that_local_mode(
    terminal: Terminal, running: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _start(terminal.here / "state", running)
    assert clusters.choose(folder / "kubeconfig").state == folder
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    assert clusters.choose().state == folder
    assert clusters.choose(terminal.file("other/kubeconfig", KUBECONFIG)).state is None


def test_a_local_modes_kubeconfig_that_it_did_not_write_is_told(terminal: Terminal, running: list[int]) -> None:
    folder = _start(terminal.here / "state", running)
    ended = terminal.run("list", "--state-dir", folder)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "is not what local mode writes" in ended.err


def test_local_mode_is_spoken_to_without_the_client_library_that_takes_a_second(terminal: Terminal) -> None:
    code = (
        "import sys; from pathlib import Path; from knative_lambda.cli.clusters import Site; import asyncio\n"
        "async def nothing(cluster): return None\n"
        "Site(Path(sys.argv[1]), None, Path('.')).ask(nothing)\n"
        "print('kubernetes' in sys.modules)"
    )
    file = terminal.here / "kubeconfig"
    access = kubeaccess.create(terminal.here / "api", clock=SystemClock())
    file.write_text(kubeaccess.kubeconfig("https://127.0.0.1:1", access))
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"


def test_a_cluster_and_a_local_mode_at_once_are_a_contradiction(terminal: Terminal) -> None:
    for options in (["--local", "--context", "x"], ["--state-dir", "s", "--kubeconfig", "k"]):
        ended = terminal.run("list", *options)
        assert (ended.code, ended.err.count("\n")) == (2, 1)
        assert "name one of them" in ended.err


def test_inside_a_pod_it_is_the_pods_own_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    assert clusters.choose() == Site()


def test_a_cluster_that_does_not_answer_is_one_line(terminal: Terminal) -> None:
    file = terminal.file("kubeconfig", KUBECONFIG)
    for arguments in (["list"], ["describe", "a"], ["invoke", "a"], ["logs", "a"], ["events"], ["events", "-f"]):
        ended = terminal.run(*arguments, "--kubeconfig", file)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
        assert "127.0.0.1:1" in ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list", "-A", "-n", "shop"], "give one of them"),
        (["events", "-A", "-n", "shop"], "give no other one"),
        (["events", "-A", "shop/hello"], "give no other one"),
        (["describe", "a/b/c"], "write NAME, or NAMESPACE/NAME"),
        (["describe", "shop/"], "write NAME, or NAMESPACE/NAME"),
        (["logs", "hello", "--tail", "-1"], "--tail"),
        (["delete", "hello"], "give --yes"),
        (["invoke", "hello", "--data", "x", "--file", "y"], "give one of them"),
        (["invoke", "hello", "--file", "missing.json"], "missing.json: No such file or directory"),
        (["invoke", "hello", "--source", "/x"], "give its --type, too"),
        (["invoke", "hello", "--type", ""], "--type is empty, and an event without a type is none"),
        (["invoke", "hello", "--header", "no colon"], "write 'Name: value'"),
        (["invoke", "hello", "--header", "a b: c"], "write 'Name: value'"),
        (["invoke", "hello", "--method", "GET /x"], "is no HTTP method"),
        (["invoke", "hello", "--type", "a\nb"], "this is no CloudEvent"),
        (["invoke", "hello", "--timeout", "0"], "--timeout"),
    ],
)
def test_wrong_usage_is_told_in_a_line_before_anything_is_asked(
    terminal: Terminal, arguments: list[str], told: str
) -> None:
    ended = terminal.run(*arguments, "--kubeconfig", terminal.file("kubeconfig", KUBECONFIG))
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert told in ended.err
