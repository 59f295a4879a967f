"""Functions on disk beside those of a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from knative_lambda.api import crd, kinds
from knative_lambda.api.meta import Key
from knative_lambda.cli import comparison, kubeconfig, workspace
from knative_lambda.cli.comparison import Difference
from knative_lambda.cli.failures import Fault
from knative_lambda.cli.rendering import bind
from knative_lambda.cluster.base import KindNotInstalled, Object
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.gitsync.declared import Declared
from knative_lambda.kit.clock import ManualClock
from tests.unit.cli.terminal import Terminal

HELLO = "metadata: {labels: {team: shop}}\nspec:\n  runtime: {language: python}\n"
INLINE = """\
apiVersion: lambda.knative.io/v1alpha1
kind: LambdaFunction
metadata: {name: greeting}
spec:
  source: {type: inline, inline: {code: "x = 1"}}
  runtime: {language: python}
"""


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(clock=ManualClock(), definitions=crd.definitions())


def _declared(terminal: Terminal, text: str = HELLO, *, name: str = "hello") -> Declared:
    terminal.file(f"functions/{name}/main.py", "def handler(request): ...\n")
    path = terminal.file(f"functions/{name}/function.yaml", text)
    (declared,) = workspace.read(path, root=terminal.here).functions
    return declared


def _manifest(declared: Declared, **source: str) -> Object:
    """The function as gitsync writes it, with what the cluster side adds."""
    manifest = bind(declared, None, namespace="shop", commit="c" * 40)
    manifest["spec"]["source"]["git"].update(source)
    return manifest


def _compare(declared: Declared, live: Object | None) -> Difference | None:
    return comparison.compare(declared, live, namespace="shop", file="functions/hello/function.yaml")


async def test_what_was_applied_is_equal_although_the_server_filled_in_defaults(
    terminal: Terminal, cluster: MemoryCluster
) -> None:
    declared = _declared(terminal)
    await cluster.apply(kinds.LAMBDA_FUNCTION, _manifest(declared))
    live = await comparison.stored(cluster, "shop")
    assert live["hello"]["spec"]["scaling"]["maxReplicas"] == 50
    assert _compare(declared, live["hello"]) is None


async def test_url_and_commit_of_a_repository_do_not_count(terminal: Terminal, cluster: MemoryCluster) -> None:
    declared = _declared(terminal)
    written = _manifest(declared, url="https://git.example.com/mirror.git", ref="main")
    written["metadata"]["annotations"] = {"lambda.knative.io/source-revision": "c" * 40}
    written["metadata"]["labels"]["lambda.knative.io/repository"] = "functions"
    await cluster.apply(kinds.LAMBDA_FUNCTION, written)
    assert _compare(declared, (await comparison.stored(cluster, "shop"))["hello"]) is None


async def test_a_changed_field_is_an_update_with_both_values(terminal: Terminal, cluster: MemoryCluster) -> None:
    await cluster.apply(kinds.LAMBDA_FUNCTION, _manifest(_declared(terminal)))
    changed = _declared(terminal, HELLO + "  scaling: {maxReplicas: 7}\n")
    found = _compare(changed, (await comparison.stored(cluster, "shop"))["hello"])
    assert found is not None
    assert (found.change, found.key) == ("update", Key("shop", "hello"))
    assert found.lines[0] == "--- cluster shop/hello"
    assert found.lines[1] == "+++ functions/hello/function.yaml"
    assert "-    maxReplicas: 50" in found.lines
    assert "+    maxReplicas: 7" in found.lines
    assert sum(line.startswith(("+ ", "- ")) for line in found.lines) == 2


async def test_a_moved_directory_is_an_update(terminal: Terminal, cluster: MemoryCluster) -> None:
    declared = _declared(terminal)
    await cluster.apply(kinds.LAMBDA_FUNCTION, _manifest(declared, path="old/hello"))
    found = _compare(declared, (await comparison.stored(cluster, "shop"))["hello"])
    assert found is not None
    assert "-      path: old/hello" in found.lines
    assert "+      path: functions/hello" in found.lines


async def test_a_changed_label_is_an_update(terminal: Terminal, cluster: MemoryCluster) -> None:
    await cluster.apply(kinds.LAMBDA_FUNCTION, _manifest(_declared(terminal)))
    found = _compare(
        _declared(terminal, HELLO.replace("shop", "web")), (await comparison.stored(cluster, "shop"))["hello"]
    )
    assert found is not None
    assert "+    team: web" in found.lines


def test_a_function_that_is_not_there_is_created_whole(terminal: Terminal) -> None:
    found = _compare(_declared(terminal), None)
    assert found is not None
    assert found.change == "create"
    assert "+  name: hello" in found.lines
    assert not any(line.startswith("-") for line in found.lines[1:])


def test_a_stored_spec_that_this_release_does_not_understand_is_shown_as_it_is(terminal: Terminal) -> None:
    live = _manifest(_declared(terminal))
    live["spec"]["fromLater"] = True
    found = _compare(_declared(terminal), live)
    assert found is not None
    assert "-  fromLater: true" in found.lines


async def test_a_function_with_its_own_source_is_compared_with_it(terminal: Terminal, cluster: MemoryCluster) -> None:
    path = terminal.file("greeting.yaml", INLINE)
    (declared,) = workspace.read(path, root=terminal.here).functions
    await cluster.apply(kinds.LAMBDA_FUNCTION, bind(declared, None, namespace="shop", commit=""))
    live = (await comparison.stored(cluster, "shop"))["greeting"]
    assert _compare(declared, live) is None
    path.write_text(INLINE.replace("x = 1", "x = 2"))
    (changed,) = workspace.read(path, root=terminal.here).functions
    assert _compare(changed, live) is not None


async def test_functions_of_other_namespaces_are_not_looked_at(terminal: Terminal, cluster: MemoryCluster) -> None:
    await cluster.apply(kinds.LAMBDA_FUNCTION, bind(_declared(terminal), None, namespace="web", commit="c" * 40))
    assert await comparison.stored(cluster, "shop") == {}


async def test_more_functions_than_a_page_are_all_read(terminal: Terminal, cluster: MemoryCluster) -> None:
    written = _manifest(_declared(terminal))
    for number in range(501):
        written["metadata"]["name"] = f"hello-{number}"
        await cluster.apply(kinds.LAMBDA_FUNCTION, written)
    assert len(await comparison.stored(cluster, "shop")) == 501


async def test_a_cluster_without_the_crds_is_told_how_to_get_them() -> None:
    with pytest.raises(KindNotInstalled, match="kn-lambda schemas --crds"):
        await comparison.stored(MemoryCluster(clock=ManualClock()), "shop")


def test_findings_on_disk_come_before_any_question_to_the_cluster(terminal: Terminal) -> None:
    terminal.file("functions/bad/function.yaml", "spec: {}\nother: 1\n")
    ended = terminal.run("diff", ".", "--kubeconfig", "nowhere")
    assert (ended.code, ended.out) == (2, "")
    assert "functions/bad/function.yaml:" in ended.err


def test_a_kubeconfig_that_is_not_there_is_an_error(terminal: Terminal) -> None:
    _declared(terminal)
    ended = terminal.run("diff", ".", "--kubeconfig", "nowhere")
    assert (ended.code, ended.err) == (2, "kn-lambda: error: nowhere: No such file or directory\n")


CONFIG = """\
apiVersion: v1
kind: Config
current-context: here
contexts:
- {name: here, context: {cluster: c, user: u, namespace: shop}}
- {name: there, context: {cluster: c, user: u}}
"""


@pytest.mark.parametrize(
    ("context", "namespace"), [(None, "shop"), ("here", "shop"), ("there", "default"), ("x", "default")]
)
def test_the_namespace_is_the_one_of_the_context(terminal: Terminal, context: str | None, namespace: str) -> None:
    assert kubeconfig.namespace(terminal.file("config", CONFIG), context) == namespace


def test_kubeconfigs_are_looked_for_where_kubectl_does(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kubeconfig.namespace(None, None) == "default"
    terminal.file(".kube/config", CONFIG)
    assert kubeconfig.namespace(None, None) == "shop"
    other = terminal.file("other", CONFIG.replace("shop", "web"))
    monkeypatch.setenv("KUBECONFIG", f"{terminal.here / 'absent'}:{other}")
    assert kubeconfig.namespace(None, None) == "web"


@pytest.mark.parametrize("text", ["- a list\n", "contexts: [\n"])
def test_a_file_that_is_no_kubeconfig_is_an_error(terminal: Terminal, text: str) -> None:
    path: Path = terminal.file("config", text)
    with pytest.raises(Fault, match="is not a kubeconfig"):
        kubeconfig.namespace(path, None)
