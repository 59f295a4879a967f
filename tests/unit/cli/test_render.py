"""What a push would end in is shown without a cluster."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from knative_lambda.api import function
from tests.unit.cli.terminal import ROOT, Ended, Terminal

HELLO = """\
metadata: {labels: {team: shop}}
spec:
  runtime: {language: python}
  triggers:
  - {broker: default, filter: {type: com.example.order.placed}}
  - {broker: other}
"""
REPOSITORY = """\
apiVersion: lambda.knative.io/v1alpha1
kind: FunctionRepository
metadata: {name: NAME, namespace: web}
spec: {url: "https://git.example.com/functions.git", ref: {branch: main}, secretRef: {name: git}}
"""


@pytest.fixture
def hello(terminal: Terminal) -> Terminal:
    terminal.file("functions/hello/function.yaml", HELLO)
    terminal.file("functions/hello/main.py", "def handler(request): ...\n")
    return terminal


def _manifests(ended: Ended) -> list[dict[str, Any]]:
    assert (ended.code, ended.err) == (0, "")
    return list(yaml.safe_load_all(ended.out))


def _kinds(manifests: list[dict[str, Any]]) -> list[str]:
    return [one["kind"] for one in manifests]


def test_a_function_becomes_a_job_a_service_and_its_triggers(hello: Terminal) -> None:
    manifests = _manifests(hello.run("render", "functions/hello", "--root", ".", "-n", "shop"))
    assert _kinds(manifests) == ["LambdaFunction", "Job", "Service", "Trigger", "Trigger"]
    fn, job, service, *triggers = manifests
    assert {one["metadata"]["namespace"] for one in manifests} == {"shop"}
    assert fn["metadata"] == {"name": "hello", "namespace": "shop", "labels": {"team": "shop"}}
    assert job["spec"]["template"]["spec"]["initContainers"][0]["command"] == ["kn-lambda", "build-context"]
    image = service["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == "localhost:5001/shop/hello@sha256:" + "0" * 64
    assert [one["spec"]["broker"] for one in triggers] == ["default", "other"]


def test_the_function_is_shown_with_its_defaults_and_is_valid(hello: Terminal) -> None:
    fn = _manifests(hello.run("render", "functions/hello", "--root", "."))[0]
    assert fn["spec"]["scaling"]["maxReplicas"] == 50
    assert fn["spec"]["source"]["git"]["path"] == "functions/hello"
    assert "env" not in fn["spec"]
    assert function.parse(fn).spec.scaling.max_replicas == 50


def test_the_only_repository_that_lies_here_says_where_the_source_is(hello: Terminal) -> None:
    hello.file("repository.yaml", REPOSITORY.replace("NAME", "functions"))
    fn = _manifests(hello.run("render", "functions/hello", "--root", ".", "--commit", "c" * 40))[0]
    assert fn["metadata"]["namespace"] == "web"
    assert fn["metadata"]["labels"]["lambda.knative.io/repository"] == "functions"
    assert fn["spec"]["source"]["git"] == {
        "url": "https://git.example.com/functions.git",
        "ref": "main",
        "commit": "c" * 40,
        "path": "functions/hello",
        "secretRef": {"name": "git"},
    }


def test_of_several_repositories_the_named_one_counts(hello: Terminal) -> None:
    hello.file("a.yaml", REPOSITORY.replace("NAME", "a"))
    named = hello.file("b.yaml", REPOSITORY.replace("NAME", "b"))
    asked = ("render", "functions/hello", "--root", ".")
    assert "labels" in _manifests(hello.run(*asked))[0]["metadata"]
    assert "lambda.knative.io/repository" not in _manifests(hello.run(*asked))[0]["metadata"]["labels"]
    fn = _manifests(hello.run(*asked, "--repository", named))[0]
    assert fn["metadata"]["labels"]["lambda.knative.io/repository"] == "b"


def test_a_file_without_a_repository_cannot_be_named(hello: Terminal) -> None:
    ended = hello.run("render", "functions/hello", "--root", ".", "--repository", "functions/hello/function.yaml")
    assert ended.code == 2
    assert "does not hold exactly one valid FunctionRepository" in ended.err


def test_settings_of_the_controller_count(hello: Terminal) -> None:
    hello.file("settings.yaml", "registry: ghcr.io/me\nbuild_namespace: builds\n")
    _, job, service, *_ = _manifests(hello.run("render", "functions/hello", "--root", ".", "--config", "settings.yaml"))
    assert job["metadata"]["namespace"] == "builds"
    image = service["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith("ghcr.io/me/default/hello@")


def test_a_ready_image_needs_no_job(terminal: Terminal) -> None:
    manifest = {
        "apiVersion": "lambda.knative.io/v1alpha1",
        "kind": "LambdaFunction",
        "metadata": {"name": "ready"},
        "spec": {"source": {"type": "image", "image": {"uri": "ghcr.io/me/ready:1.0"}}},
    }
    terminal.file("ready.yaml", yaml.safe_dump(manifest))
    manifests = _manifests(terminal.run("render", "ready.yaml"))
    assert _kinds(manifests) == ["LambdaFunction", "Service"]
    assert manifests[1]["spec"]["template"]["spec"]["containers"][0]["image"] == "ghcr.io/me/ready:1.0"


def test_what_the_controller_would_stop_at_is_told_and_exit_code_1(terminal: Terminal) -> None:
    terminal.file("functions/old/function.yaml", 'spec:\n  runtime: {language: python, version: "2.7"}\n')
    terminal.file("functions/old/main.py", "def handler(request): ...\n")
    ended = terminal.run("render", "functions/old")
    assert ended.code == 1
    assert _kinds(list(yaml.safe_load_all(ended.out))) == ["LambdaFunction"]
    assert ended.err.startswith("old: the controller would stop here: ")
    assert "2.7" in ended.err


def test_a_source_that_this_release_cannot_build_is_told(terminal: Terminal) -> None:
    manifest = {
        "apiVersion": "lambda.knative.io/v1alpha1",
        "kind": "LambdaFunction",
        "metadata": {"name": "stored"},
        "spec": {"source": {"minio": {"bucket": "code", "key": "x.zip"}}, "runtime": {"language": "python"}},
    }
    terminal.file("stored.yaml", yaml.safe_dump(manifest))
    ended = terminal.run("render", "stored.yaml", "-o", "json")
    assert ended.code == 1
    assert _kinds(ended.json["items"]) == ["LambdaFunction"]
    assert "stored: the controller would stop here: sources of type minio cannot be built" in ended.err


def test_json_is_a_list_that_kubectl_takes(hello: Terminal) -> None:
    listed = hello.run("render", "functions/hello", "--root", ".", "-o", "json").json
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    assert listed["items"] == _manifests(hello.run("render", "functions/hello", "--root", "."))


def test_findings_are_told_instead(terminal: Terminal) -> None:
    terminal.file("functions/bad/function.yaml", "spec: {}\nother: 1\n")
    ended = terminal.run("render", ".")
    assert (ended.code, ended.out) == (2, "")
    assert "functions/bad/function.yaml:" in ended.err


def test_every_example_is_rendered(terminal: Terminal) -> None:
    manifests = _manifests(terminal.run("render", ROOT / "functions-example-repo"))
    assert _kinds(manifests).count("LambdaFunction") == 5
    assert _kinds(manifests).count("Job") == 5
    assert _kinds(manifests).count("Service") == 5
    assert _kinds(manifests).count("Trigger") == 1
