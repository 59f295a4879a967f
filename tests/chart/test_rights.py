"""What the release's account may do is refused or allowed by the real API server."""

from __future__ import annotations

import pytest

from tests.chart.engine import Helm
from tests.chart.rights import REFUSED, Refused, rights, rules
from tests.chart.test_render import BROKERS, BY_OPERATOR
from tests.testbed.apiclient import ApiClient, ApiError
from tests.testbed.kubernetes import KubernetesBed

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


def token(bed: KubernetesBed, namespace: str) -> str:
    """A token of the controller's account, as a pod gets it."""
    answer = bed.api.create(
        f"/api/v1/namespaces/{namespace}/serviceaccounts/knative-lambda-operator/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}},
    )
    found: str = answer["status"]["token"]
    return found


def may(bed: KubernetesBed, namespace: str, asked: Refused, *, name: str = "") -> bool:
    """Whether the account of the release in that namespace may do this."""
    attributes = {
        "verb": asked.verb, "group": asked.group, "resource": asked.resource, "namespace": asked.namespace,
        "subresource": asked.subresource, "name": name,
    }  # fmt: skip
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{namespace}:knative-lambda-operator",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": attributes,
        },
    }
    allowed: bool = bed.api.create(REVIEWS, review)["status"]["allowed"]
    return allowed


def test_everything_that_a_rule_gives_is_allowed_and_what_must_not_be_is_refused(
    kubernetes_bed: KubernetesBed, helm: Helm
) -> None:
    made = helm.install()
    for rule in rules(made):
        name = (rule.get("resourceNames") or [""])[0]
        for right in rights(rule):
            resource, _, subresource = right.resource.partition("/")
            inside = helm.namespace
            asked = Refused(right.verb, resource, right.group, inside, subresource)
            assert may(kubernetes_bed, helm.namespace, asked, name=name), right
    allowed = [asked for asked in REFUSED if may(kubernetes_bed, helm.namespace, asked)]
    assert allowed == []


def test_real_calls_with_the_accounts_token_are_refused(kubernetes_bed: KubernetesBed, helm: Helm) -> None:
    helm.install()
    account = ApiClient(
        url=kubernetes_bed.url, token=token(kubernetes_bed, helm.namespace), ca_file=kubernetes_bed.ca_file
    )
    inside = f"/api/v1/namespaces/{helm.namespace}"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {}}
    tried = [
        ("GET", "/api/v1/secrets", None),
        ("GET", f"{inside}/secrets", None),
        ("POST", f"{inside}/pods", pod),
        ("DELETE", inside, None),
        ("DELETE", f"{inside}/secrets/anything", None),
        ("GET", f"{inside}/configmaps/knative-lambda-operator", None),
    ]
    for method, path, body in tried:
        with pytest.raises(ApiError) as refused:
            account.request(method, path, body=body)
        assert refused.value.status == 403, (method, path)
    with pytest.raises(ApiError) as absent:
        account.get(f"{inside}/secrets/absent")
    assert absent.value.status == 404, "reading one by its name is allowed"
    account.close()


def test_with_named_namespaces_the_account_may_do_nothing_elsewhere(
    kubernetes_bed: KubernetesBed, helm: Helm, other_namespace: str
) -> None:
    helm.install({"watchNamespaces": [helm.namespace], "rbac": {"secretNames": ["git"]}})
    functions, secrets = ("list", "lambdafunctions", "lambda.knative.io"), ("get", "secrets", "")
    assert may(kubernetes_bed, helm.namespace, Refused(*functions, namespace=helm.namespace))
    assert may(kubernetes_bed, helm.namespace, Refused(*secrets, namespace=helm.namespace), name="git")
    assert not may(kubernetes_bed, helm.namespace, Refused(*secrets, namespace=helm.namespace), name="other")
    assert not may(kubernetes_bed, helm.namespace, Refused(*secrets, namespace=other_namespace), name="git")
    assert not may(kubernetes_bed, helm.namespace, Refused(*functions, namespace=other_namespace))
    assert not may(kubernetes_bed, helm.namespace, Refused(*functions))


def test_dead_letter_objects_may_be_made_in_their_namespace_and_nowhere_else(
    kubernetes_bed: KubernetesBed, helm: Helm, other_namespace: str
) -> None:
    made = helm.install(BY_OPERATOR | {"deadLetters": {**BY_OPERATOR["deadLetters"], "namespace": other_namespace}})
    topology = [right for rule in rules(made) for right in rights(rule) if right.group == "rabbitmq.com"]
    assert len(topology) == 12
    for right in topology:
        asked = Refused(right.verb, right.resource, right.group)
        assert may(kubernetes_bed, helm.namespace, asked._replace(namespace=other_namespace)), right
        assert not may(kubernetes_bed, helm.namespace, asked._replace(namespace=helm.namespace)), right
        assert not may(kubernetes_bed, helm.namespace, asked), right
    for verb in ("list", "watch", "delete", "update"):
        assert not may(kubernetes_bed, helm.namespace, Refused(verb, "queues", "rabbitmq.com", other_namespace)), verb
    allowed = [asked for asked in REFUSED if may(kubernetes_bed, helm.namespace, asked)]
    assert allowed == []


def test_brokers_may_be_made_where_functions_are_and_never_changed(
    kubernetes_bed: KubernetesBed, helm: Helm, other_namespace: str
) -> None:
    helm.install(BROKERS | {"watchNamespaces": [helm.namespace]})
    for kind in ("brokers", "rabbitmqbrokerconfigs"):
        inside = Refused("create", kind, "eventing.knative.dev", helm.namespace)
        assert may(kubernetes_bed, helm.namespace, inside)
        assert not may(kubernetes_bed, helm.namespace, inside._replace(namespace=other_namespace))
        for verb in ("patch", "update", "delete"):
            assert not may(kubernetes_bed, helm.namespace, inside._replace(verb=verb))
