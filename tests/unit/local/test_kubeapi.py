"""The Kubernetes REST API over a memory cluster: what clients other than our own rely on, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import stat
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from knative_lambda.api import crd, function
from knative_lambda.api.kinds import CONFIG_MAP, EVENT, LAMBDA_FUNCTION, POD, SERVICE
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster import base
from knative_lambda.cluster.base import ClusterError, NotFound, Object, Selection, WatchEvent
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import SystemClock
from knative_lambda.local.kube import kubeaccess, kubeapi, kubebodies, kubetable
from knative_lambda.local.kube.kubeaccess import Access
from tests.localapi import served

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MAPS = "/kube/api/v1/namespaces/default/configmaps"
FUNCTIONS = "/kube/apis/lambda.knative.io/v1alpha1/namespaces/default/lambdafunctions"
TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)
APPLY = {"content-type": "application/apply-patch+yaml"}
MERGE = {"content-type": "application/merge-patch+json"}
STRATEGIC = {"content-type": "application/strategic-merge-patch+json"}


class Watched(MemoryCluster):
    """Counts the watches that are running, and can have a defect."""

    running = 0
    defect = False

    async def get(self, kind: Kind, key: Key) -> Object:
        if self.defect:
            raise RuntimeError("a secret thought")
        return await super().get(kind, key)

    async def watch(self, *arguments: Any, **options: Any) -> AsyncIterator[WatchEvent]:
        self.running += 1
        try:
            async for event in super().watch(*arguments, **options):
                yield event
        finally:
            self.running -= 1


@pytest.fixture
async def cluster() -> AsyncIterator[Watched]:
    memory = Watched(
        clock=SystemClock(),
        definitions=crd.definitions(),
        kinds=[SERVICE],
        validators={LAMBDA_FUNCTION: function.parse},
        bookmark_seconds=0.2,
    )
    yield memory
    await memory.close()


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return kubeaccess.create(tmp_path / "api", clock=SystemClock())


@pytest.fixture
async def api(cluster: Watched, access: Access) -> AsyncIterator[httpx.AsyncClient]:
    """A client that holds the token."""
    app = Starlette(routes=kubeapi.routes(cluster, access, clock=SystemClock()))
    headers = {"authorization": f"Bearer {access.token}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="https://127.0.0.1", headers=headers
    ) as client:
        yield client


def config_map(name: str = "a", **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def hello(**spec: Any) -> Object:
    return {
        "apiVersion": LAMBDA_FUNCTION.api_version,
        "kind": "LambdaFunction",
        "metadata": {"name": "hello", "namespace": "default"},
        "spec": {
            "runtime": {"language": "python", "version": "3.11"},
            "source": {"type": "inline", "inline": {"code": "def handler(event): return event"}},
            **spec,
        },
    }


def nested(depth: int) -> bytes:
    return b'{"metadata":{"name":"a"},"data":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


async def watched(api: httpx.AsyncClient, path: str, **query: str) -> list[dict[str, Any]]:
    """Every line of a watch of one second."""
    answer = await api.get(path, params={"watch": "1", "timeoutSeconds": "1", **query})
    assert answer.status_code == 200
    return [orjson.loads(line) for line in answer.content.splitlines()]


def told(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(line["type"], line["object"]["metadata"].get("name", "")) for line in lines]


class TestAccess:
    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic {token}", "{token}", "Bearer é"])
    async def test_who_does_not_hold_the_token_gets_nothing(
        self, api: httpx.AsyncClient, cluster: Watched, access: Access, header: str | None
    ) -> None:
        del api.headers["authorization"]
        headers = {} if header is None else {"authorization": header.format(token=access.token).encode()}
        for path in ("/kube/version", MAPS, "/kube/nowhere"):
            answer = await api.get(path, headers=headers)
            assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized")
        assert (await api.post(MAPS, json=config_map(), headers=headers)).status_code == 401
        assert cluster.counts.total == 0

    async def test_no_page_of_another_origin_may_read_an_answer(self, api: httpx.AsyncClient) -> None:
        answer = await api.get(MAPS, headers={"origin": "https://example.org"})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["cache-control"] == "no-store"

    async def test_token_and_key_are_for_their_owner_alone(self, tmp_path: Path, access: Access) -> None:
        assert stat.S_IMODE(access.key.parent.stat().st_mode) == 0o700
        assert [stat.S_IMODE(path.stat().st_mode) for path in (access.key, access.certificate)] == [0o600, 0o600]
        assert access.token not in repr(access)
        kubeaccess.write_private(tmp_path / "kubeconfig", kubeaccess.kubeconfig("https://a:1", access).encode())
        assert stat.S_IMODE((tmp_path / "kubeconfig").stat().st_mode) == 0o600

    async def test_every_start_has_another_token(self, tmp_path: Path, access: Access) -> None:
        again = kubeaccess.create(access.key.parent, clock=SystemClock())
        assert again.token != access.token
        assert not again.admits(f"Bearer {access.token}")

    async def test_our_client_reads_the_kubeconfig_and_the_listener_speaks_tls_only(
        self, cluster: Watched, tmp_path: Path
    ) -> None:
        async with served(cluster, tmp_path) as local:
            client = await local.connect()
            assert (await client.create(CONFIG_MAP, config_map(a="b")))["data"] == {"a": "b"}
            await client.close()
            async with httpx.AsyncClient() as stranger:
                with pytest.raises(httpx.HTTPError):
                    await stranger.get(f"{local.url.replace('https', 'http')}/kube/version")
                with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                    await stranger.get(f"{local.url}/kube/version")


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "code", "complaint"),
        [
            (b"{", 400, "not JSON"),
            (b"[]", 400, "not an object"),
            (b"5", 400, "not an object"),
            (b"{}", 400, "metadata must be an object"),
            (b'{"metadata":[]}', 400, "metadata must be an object"),
            (b'{"metadata":{"name":5}}', 400, "metadata.name must be text"),
            (b'{"metadata":{"name":"a","namespace":{}}}', 400, "metadata.namespace must be text"),
            (b'{"metadata":{"name":"a","namespace":"other"}}', 400, "is not the namespace in the path"),
            (b'{"metadata":{"name":"a","labels":["a"]}}', 422, "is not of type"),
            (b'{"kind":"Pod","metadata":{"name":"a"}}', 400, "was sent to configmaps"),
            (nested(80), 400, "nests deeper than 64"),
            (nested(5000), 400, "not JSON"),
            (b'{"metadata":{"name":"a"},"data":{"a":"' + b"x" * kubebodies.SIZE_LIMIT + b'"}}', 413, "larger than"),
        ],
    )
    async def test_a_body_that_cannot_be_is_refused(
        self, api: httpx.AsyncClient, cluster: Watched, body: bytes, code: int, complaint: str
    ) -> None:
        answer = await api.post(MAPS, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (code, code)
        assert complaint in answer.json()["message"]
        assert (await cluster.list(CONFIG_MAP)).items == []

    @pytest.mark.parametrize(
        "headers",
        [
            {"content-type": "application/vnd.example"},
            {"content-type": "application/json", "content-encoding": "gzip"},
        ],
    )
    async def test_a_form_that_is_not_known_is_refused(self, api: httpx.AsyncClient, headers: dict[str, str]) -> None:
        answer = await api.post(MAPS, content=b"x", headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (415, "UnsupportedMediaType")

    async def test_people_may_apply_yaml(self, api: httpx.AsyncClient, cluster: Watched) -> None:
        body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  when: '2026-01-01'\n"
        answer = await api.patch(f"{MAPS}/a?fieldManager=me", content=body, headers=APPLY)
        assert answer.status_code == 200
        assert (await cluster.get(CONFIG_MAP, Key("default", "a")))["data"] == {"when": "2026-01-01"}

    @pytest.mark.parametrize(
        ("body", "complaint"),
        [
            ("a: [" * 200, "nested deeper"),
            ("a: &a [x,x,x,x,x,x,x,x]\n" + "".join(f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]\n" for p, c in
             zip("abcdefgh", "bcdefghi", strict=True)), "aliases"),
            ("a: !!python/object/apply:os.system [id]", "tag"),
            ("metadata: {name: a}\n---\nmetadata: {name: b}\n", "2 documents"),
            ("metadata: {name: a}\nmetadata: {name: a}\n", "there twice"),
            ("a: '" + "x" * 300_000 + "'", "larger than"),
        ],
    )  # fmt: skip
    async def test_dangerous_yaml_is_refused(self, api: httpx.AsyncClient, body: str, complaint: str) -> None:
        answer = await api.patch(f"{MAPS}/a?fieldManager=me", content=body, headers=APPLY)
        assert answer.status_code == 400
        assert complaint in answer.json()["message"]


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "code", "reason"),
        [
            (base.Forbidden("no"), 403, "Forbidden"),
            (base.Gone("too old"), 410, "Expired"),
            (base.TooManyRequests("slowly", retry_after=7), 429, "TooManyRequests"),
            (base.Unavailable("down"), 503, "ServiceUnavailable"),
            (base.Timeout("late"), 504, "Timeout"),
            (base.Invalid("what"), 400, "BadRequest"),
        ],
    )
    async def test_an_error_of_the_cluster_is_a_status(
        self, api: httpx.AsyncClient, cluster: Watched, error: ClusterError, code: int, reason: str
    ) -> None:
        cluster.fail_next("get", CONFIG_MAP, error)
        answer = await api.get(f"{MAPS}/a")
        assert answer.status_code == code
        assert answer.json() | {"details": {}} == {
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": code,
            "reason": reason, "message": error.message, "details": {},
        }  # fmt: skip
        assert answer.headers.get("retry-after") == ("7" if error.retry_after else None)

    async def test_a_missing_object_is_named_and_a_missing_kind_is_not(self, api: httpx.AsyncClient) -> None:
        missing = (await api.get(f"{MAPS}/nobody")).json()
        assert missing["message"] == 'configmaps "nobody" not found'
        assert missing["details"] == {"kind": "configmaps", "name": "nobody"}
        ghosts = await api.get("/kube/apis/example.org/v1/namespaces/default/ghosts/a")
        assert ghosts.status_code == 404
        assert "details" not in ghosts.json()

    async def test_a_taken_name_and_a_stale_version_are_different_conflicts(self, api: httpx.AsyncClient) -> None:
        made = (await api.post(MAPS, json=config_map())).json()
        taken = await api.post(MAPS, json=config_map())
        assert (taken.status_code, taken.json()["reason"]) == (409, "AlreadyExists")
        assert taken.json()["details"]["name"] == "a"
        await api.put(f"{MAPS}/a", json={**made, "data": {"a": "1"}})
        stale = await api.put(f"{MAPS}/a", json={**made, "data": {"a": "2"}})
        assert (stale.status_code, stale.json()["reason"]) == (409, "Conflict")

    async def test_an_invalid_function_has_a_cause_per_finding(self, api: httpx.AsyncClient) -> None:
        answer = await api.post(
            FUNCTIONS, json=hello(runtime={"language": "cobol", "version": "1"}, scaling={"maxReplicas": "x"})
        )
        status = answer.json()
        assert (answer.status_code, status["reason"]) == (422, "Invalid")
        assert status["details"]["name"] == "hello"
        fields = [cause["field"] for cause in status["details"]["causes"]]
        assert {"spec.runtime.language", "spec.scaling.maxReplicas"} <= set(fields)

    async def test_what_nobody_foresaw_is_logged_and_hidden(self, api: httpx.AsyncClient, cluster: Watched) -> None:
        cluster.defect = True
        answer = await api.get(f"{MAPS}/a")
        assert (answer.status_code, answer.json()["reason"]) == (500, "InternalError")
        assert "thought" not in answer.text

    @pytest.mark.parametrize(
        ("method", "path", "code"),
        [
            ("DELETE", MAPS, 405),
            ("POST", f"{MAPS}/a", 405),
            ("PUT", MAPS, 405),
            ("POST", "/kube/api/v1/namespaces/default/events", 405),
            ("DELETE", f"{FUNCTIONS}/hello/status", 405),
            ("POST", "/kube/version", 404),
            ("GET", "/kube/", 404),
            ("GET", "/kube/api/v1/configmaps/a", 404),
            ("GET", "/kube/api/v1/namespaces/default/namespaces/a", 404),
            ("GET", f"{MAPS}/a/status", 404),
            ("GET", f"{MAPS}/a/log", 404),
            ("GET", f"{MAPS}/a/status/x", 404),
            ("GET", "/kube/api/v2/configmaps", 404),
        ],
    )
    async def test_what_is_not_served_says_so(self, api: httpx.AsyncClient, method: str, path: str, code: int) -> None:
        answer = await api.request(method, path, json={})
        assert (answer.status_code, answer.json()["code"]) == (code, code)

    async def test_a_quoted_slash_is_part_of_a_name(self, api: httpx.AsyncClient) -> None:
        await api.post(FUNCTIONS, json=hello())
        answer = await api.get(f"{FUNCTIONS}/hello%2Fstatus")
        assert answer.json()["details"]["name"] == "hello/status"


class TestDiscovery:
    async def test_groups_and_versions_are_listed(self, api: httpx.AsyncClient) -> None:
        assert (await api.get("/kube/version")).json()["major"] == "1"
        assert (await api.get("/kube/api")).json()["versions"] == ["v1"]
        groups = (await api.get("/kube/apis")).json()["groups"]
        assert {"lambda.knative.io", "serving.knative.dev", "batch"} <= {group["name"] for group in groups}
        one = (await api.get("/kube/apis/lambda.knative.io")).json()
        assert one["preferredVersion"] == {"groupVersion": "lambda.knative.io/v1alpha1", "version": "v1alpha1"}
        assert (await api.get("/kube/apis/absent.example.org")).status_code == 404
        assert (await api.get("/kube/apis/absent.example.org/v1")).status_code == 404

    async def test_a_kind_is_listed_as_its_definition_calls_it(self, api: httpx.AsyncClient) -> None:
        found = (await api.get("/kube/apis/lambda.knative.io/v1alpha1")).json()
        by_name = {one["name"]: one for one in found["resources"]}
        assert by_name["lambdafunctions"] == {
            "name": "lambdafunctions", "singularName": "lambdafunction", "namespaced": True, "kind": "LambdaFunction",
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
            "shortNames": ["lfn"], "categories": ["knative"],
        }  # fmt: skip
        assert "lambdafunctions/status" in by_name
        core = {one["name"]: one for one in (await api.get("/kube/api/v1")).json()["resources"]}
        assert core["configmaps"]["shortNames"] == ["cm"]
        assert "configmaps/status" not in core
        assert core["events"]["verbs"] == ["delete", "get", "list", "watch"]

    async def test_a_kind_comes_and_goes_with_its_definition(self, api: httpx.AsyncClient, cluster: Watched) -> None:
        cluster.uninstall(LAMBDA_FUNCTION)
        found = (await api.get("/kube/apis/lambda.knative.io/v1alpha1")).json()["resources"]
        assert not [one for one in found if one["name"].startswith("lambdafunctions")]
        assert (await api.get(FUNCTIONS)).status_code == 404

    async def test_the_field_documents_hold_what_apply_and_explain_read(self, api: httpx.AsyncClient) -> None:
        roots = (await api.get("/kube/openapi/v3")).json()["paths"]
        path = roots["apis/lambda.knative.io/v1alpha1"]["serverRelativeURL"]
        document = (await api.get(path)).json()
        operations = document["paths"]["/apis/lambda.knative.io/v1alpha1/namespaces/{namespace}/lambdafunctions/{name}"]
        assert [one["name"] for one in operations["patch"]["parameters"]] == ["fieldValidation"]
        schema = document["components"]["schemas"]["io.knative.lambda.v1alpha1.LambdaFunction"]
        assert "runtime" in schema["properties"]["spec"]["properties"]


class TestReading:
    async def test_a_list_comes_in_pages(self, api: httpx.AsyncClient) -> None:
        for name in "abc":
            await api.post(MAPS, json=config_map(name))
        first = (await api.get(MAPS, params={"limit": 2})).json()
        assert first["kind"] == "ConfigMapList"
        rest = (await api.get(MAPS, params={"limit": 2, "continue": first["metadata"]["continue"]})).json()
        names = [[one["metadata"]["name"] for one in page["items"]] for page in (first, rest)]
        assert names == [["a", "b"], ["c"]]
        assert "continue" not in rest["metadata"]
        stale = await api.get(MAPS, params={"continue": "nonsense"})
        assert (stale.status_code, stale.json()["reason"]) == (410, "Expired")

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ({"labelSelector": "a=b=c=d"}, 400),
            ({"fieldSelector": "data.a=b"}, 400),
            ({"limit": "many"}, 400),
            ({"limit": "-1"}, 400),
            ({"resourceVersion": "x"}, 400),
            ({"resourceVersion": "999999"}, 504),
            ({"watch": "1", "labelSelector": "a=b=c=d"}, 400),
            ({"watch": "1", "timeoutSeconds": "long"}, 400),
        ],
    )
    async def test_a_question_that_makes_no_sense_is_refused(
        self, api: httpx.AsyncClient, query: dict[str, str], code: int
    ) -> None:
        assert (await api.get(MAPS, params=query)).status_code == code

    async def test_a_table_has_the_columns_of_the_definition(self, api: httpx.AsyncClient) -> None:
        await api.post(FUNCTIONS, json=hello())
        status = {"phase": "Ready", "conditions": [
            {"type": "Built", "status": "False", "reason": "Building", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]}  # fmt: skip
        patched = await api.patch(f"{FUNCTIONS}/hello/status", content=orjson.dumps({"status": status}), headers=MERGE)
        assert patched.status_code == 200, patched.text
        for path in (FUNCTIONS, f"{FUNCTIONS}/hello"):
            table = (await api.get(path, headers={"accept": TABLE})).json()
            columns = [one["name"] for one in table["columnDefinitions"] if not one["priority"]]
            assert columns == ["Name", "Ready", "Phase", "Language", "URL", "Age"]
            (row,) = table["rows"]
            assert row["cells"][:5] == ["hello", "True", "Ready", "python", None]
            assert row["cells"][-1].endswith("s")
            assert row["object"]["kind"] == "PartialObjectMetadata"
            assert "spec" not in row["object"]

    @pytest.mark.parametrize(
        ("accept", "wanted"),
        [
            (TABLE, True),
            ("application/json", False),
            ("application/json, */*", False),
            ("", False),
            ("application/vnd.kubernetes.protobuf, application/json;as=Table;g=meta.k8s.io;v=v1", True),
            ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", False),
        ],
    )
    def test_only_who_asks_for_a_table_gets_one(self, accept: str, wanted: bool) -> None:
        assert kubetable.wanted(accept) is wanted

    @pytest.mark.parametrize(
        ("age", "text"),
        [
            (timedelta(seconds=-3), "0s"),
            (timedelta(seconds=119), "119s"),
            (timedelta(minutes=2), "2m"),
            (timedelta(minutes=3, seconds=20), "3m20s"),
            (timedelta(minutes=12, seconds=20), "12m"),
            (timedelta(hours=5, minutes=3), "5h3m"),
            (timedelta(hours=30, minutes=3), "30h"),
            (timedelta(days=2, hours=3), "2d3h"),
            (timedelta(days=30, hours=3), "30d"),
            (timedelta(days=1000), "1000d"),
        ],
    )
    def test_ages_are_short(self, age: timedelta, text: str) -> None:
        assert kubetable.human_age((NOW - age).isoformat(), NOW) == text

    @pytest.mark.parametrize(
        ("path", "found"),
        [
            (".a.b", [1]),
            (".a.absent.b", []),
            ('.list[?(@.type=="y")].v', [2]),
            (".list[0].v", [1]),
            (".list[9].v", []),
            (".list[*].v", [1, 2]),
            (r".a.x\.y", [3]),
            (".a['x.y']", [3]),
            (".a[0]", []),
        ],
    )
    def test_columns_find_their_values(self, path: str, found: list[int]) -> None:
        obj = {"a": {"b": 1, "x.y": 3}, "list": [{"type": "x", "v": 1}, {"type": "y", "v": 2}]}
        assert kubetable.values(obj, path) == found

    async def test_an_event_that_makes_no_sense_hides_no_other(self, api: httpx.AsyncClient, cluster: Watched) -> None:
        metadata = {"name": "odd", "namespace": "default"}
        await cluster.create(EVENT, {"metadata": metadata, "series": [1], "eventTime": 5, "regarding": "x"})
        await cluster.create(EVENT, {"metadata": {**metadata, "name": "plain"}, "note": "n"})
        for accept in (TABLE, "application/json"):
            answer = await api.get("/kube/api/v1/namespaces/default/events", headers={"accept": accept})
            assert (answer.status_code, b"plain" in answer.content) == (200, True)

    async def test_events_are_read_in_their_older_form_by_what_they_are_about(
        self, api: httpx.AsyncClient, cluster: Watched
    ) -> None:
        for name in ("hello", "other"):
            await cluster.create(
                EVENT,
                {
                    "metadata": {"name": f"{name}.1", "namespace": "default"},
                    "eventTime": "2026-01-01T00:00:00.123456Z",
                    "regarding": {"kind": "LambdaFunction", "name": name, "namespace": "default"},
                    "reason": "Building",
                    "type": "Normal",
                    "note": "builds it",
                    "reportingController": "knative-lambda",
                },
            )
        path = "/kube/api/v1/namespaces/default/events"
        query = {"fieldSelector": "involvedObject.name=hello,involvedObject.kind=LambdaFunction"}
        (event,) = (await api.get(path, params=query)).json()["items"]
        assert (event["apiVersion"], event["message"]) == ("v1", "builds it")
        assert (event["lastTimestamp"], event["count"]) == ("2026-01-01T00:00:00Z", 1)
        assert event["source"] == {"component": "knative-lambda"}
        assert told(await watched(api, path, **query)) == [("ADDED", "hello.1")]
        assert (await api.delete(f"{path}/hello.1")).status_code == 200
        assert [one["metadata"]["name"] for one in (await cluster.list(EVENT)).items] == ["other.1"]


class TestWatching:
    async def test_a_watch_without_a_version_begins_with_what_is_there(self, api: httpx.AsyncClient) -> None:
        await api.post(MAPS, json=config_map())
        assert told(await watched(api, MAPS)) == [("ADDED", "a")]
        assert told(await watched(api, MAPS, resourceVersion="0")) == [("ADDED", "a")]
        assert told(await watched(api, MAPS, sendInitialEvents="false")) == []

    async def test_bookmarks_are_for_who_asks(self, api: httpx.AsyncClient) -> None:
        made = (await api.post(MAPS, json=config_map())).json()
        since = made["metadata"]["resourceVersion"]
        assert await watched(api, MAPS, resourceVersion=since) == []
        lines = await watched(api, MAPS, resourceVersion=since, allowWatchBookmarks="true")
        assert {line["type"] for line in lines} == {"BOOKMARK"}
        assert lines[-1]["object"]["metadata"]["resourceVersion"] == since

    async def test_the_end_of_the_first_events_is_marked(self, api: httpx.AsyncClient) -> None:
        await api.post(MAPS, json=config_map())
        query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
        first, second, *_ = await watched(api, MAPS, **query)
        assert (first["type"], second["type"]) == ("ADDED", "BOOKMARK")
        assert second["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}

    async def test_a_version_that_is_forgotten_ends_the_watch_with_a_status(
        self, api: httpx.AsyncClient, cluster: Watched
    ) -> None:
        await api.post(MAPS, json=config_map())
        cluster.compact()
        (line,) = await watched(api, MAPS, resourceVersion="1")
        assert (line["type"], line["object"]["code"], line["object"]["reason"]) == ("ERROR", 410, "Expired")

    async def test_a_watch_of_tables_has_one_heading(self, api: httpx.AsyncClient) -> None:
        for name in "ab":
            await api.post(MAPS, json=config_map(name))
        api.headers["accept"] = TABLE
        lines = await watched(api, MAPS)
        assert [line["object"]["rows"][0]["cells"][0] for line in lines] == ["a", "b"]
        assert [len(line["object"]["columnDefinitions"]) for line in lines] == [2, 0]

    async def test_a_client_that_goes_takes_its_watch_with_it(self, cluster: Watched, tmp_path: Path) -> None:
        async with served(cluster, tmp_path) as local:
            headers = {"authorization": f"Bearer {local.access.token}"}
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False), headers=headers) as client:
                async with client.get(f"{local.url}{MAPS}?watch=1") as answer:
                    await cluster.create(CONFIG_MAP, config_map())
                    assert b"ADDED" in await answer.content.readline()
                    assert cluster.running == 1
                    answer.close()
            async with asyncio.timeout(5):
                while cluster.running:
                    await asyncio.sleep(0.01)
        assert cluster.running == 0

    async def test_a_server_that_stops_waits_for_no_watch(self, cluster: Watched, tmp_path: Path) -> None:
        async with contextlib.AsyncExitStack() as stack:
            async with served(cluster, tmp_path) as local:
                headers = {"authorization": f"Bearer {local.access.token}"}
                connector = aiohttp.TCPConnector(ssl=False)
                client = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, headers=headers))
                answer = await stack.enter_async_context(client.get(f"{local.url}{MAPS}?watch=1"))
                await cluster.create(CONFIG_MAP, config_map())
                assert b"ADDED" in await answer.content.readline()
                stopping = time.monotonic()
            assert time.monotonic() - stopping < 1.5  # the listener gives running requests two seconds
            assert await answer.content.read() == b""
        assert cluster.running == 0


class TestWriting:
    async def test_an_apply_names_its_manager_and_its_object(self, api: httpx.AsyncClient) -> None:
        body = orjson.dumps(config_map())
        nameless = await api.patch(f"{MAPS}/a", content=body, headers=APPLY)
        assert (nameless.status_code, "fieldManager" in nameless.json()["message"]) == (400, True)
        other = await api.patch(f"{MAPS}/b?fieldManager=me", content=body, headers=APPLY)
        assert (other.status_code, "is not the name in the path" in other.json()["message"]) == (400, True)

    async def test_another_manager_has_to_force(self, api: httpx.AsyncClient) -> None:
        for manager, value in (("one", "1"), ("two", "2")):
            body = orjson.dumps(config_map(a=value))
            answer = await api.patch(f"{MAPS}/a?fieldManager={manager}", content=body, headers=APPLY)
        assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
        assert 'conflict with "one": .data.a' in answer.json()["message"]
        forced = await api.patch(f"{MAPS}/a?fieldManager=two&force=true", content=body, headers=APPLY)
        assert forced.json()["data"] == {"a": "2"}

    async def test_a_strategic_patch_is_a_merge_where_it_means_the_same(self, api: httpx.AsyncClient) -> None:
        await api.post(MAPS, json=config_map(a="1", b="2"))
        patch = orjson.dumps({"data": {"a": None, "c": "3"}})
        answer = await api.patch(f"{MAPS}/a", content=patch, headers=STRATEGIC)
        assert answer.json()["data"] == {"b": "2", "c": "3"}

    @pytest.mark.parametrize(
        ("headers", "patch"),
        [
            (STRATEGIC, {"metadata": {"finalizers": ["example.org/a"]}}),
            (STRATEGIC, {"data": {"$patch": "replace"}}),
            ({"content-type": "application/json-patch+json"}, []),
        ],
    )
    async def test_a_patch_that_would_be_misunderstood_is_refused(
        self, api: httpx.AsyncClient, headers: dict[str, str], patch: Any
    ) -> None:
        made = (await api.post(MAPS, json=config_map(a="1"))).json()
        answer = await api.patch(f"{MAPS}/a", content=orjson.dumps(patch), headers=headers)
        assert answer.status_code == 415
        assert (await api.get(f"{MAPS}/a")).json() == made

    async def test_a_deletion_tells_what_is_left(self, api: httpx.AsyncClient, cluster: Watched) -> None:
        made = (await api.post(MAPS, json=config_map())).json()
        gone = (await api.delete(f"{MAPS}/a")).json()
        details = {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
        assert (gone["status"], gone["details"] | details) == ("Success", gone["details"])
        held = config_map()
        held["metadata"]["finalizers"] = ["example.org/hold"]
        await api.post(MAPS, json=held)
        going = (await api.delete(f"{MAPS}/a")).json()
        assert (going["kind"], "deletionTimestamp" in going["metadata"]) == ("ConfigMap", True)
        await cluster.patch(CONFIG_MAP, Key("default", "a"), {"metadata": {"finalizers": None}})
        with pytest.raises(NotFound):
            await cluster.get(CONFIG_MAP, Key("default", "a"))

    @pytest.mark.parametrize(
        ("options", "code"),
        [
            ({"preconditions": {"uid": "somebody-else"}}, 409),
            ({"preconditions": {"resourceVersion": "1"}}, 409),
            ({"preconditions": ["uid"]}, 400),
            ({"propagationPolicy": "Sideways"}, 400),
            ({"dryRun": ["All"]}, 200),
        ],
    )
    async def test_a_deletion_that_is_refused_or_rehearsed_deletes_nothing(
        self, api: httpx.AsyncClient, options: Object, code: int
    ) -> None:
        await api.post(MAPS, json=config_map())
        assert (await api.request("DELETE", f"{MAPS}/a", json=options)).status_code == code
        assert (await api.get(f"{MAPS}/a")).status_code == 200

    async def test_a_dry_run_answers_what_would_be_and_writes_nothing(
        self, api: httpx.AsyncClient, cluster: Watched
    ) -> None:
        made = (await api.post(FUNCTIONS, json=hello())).json()
        child = config_map("child")
        owner = {"apiVersion": made["apiVersion"], "kind": "LambdaFunction", "name": "hello"}
        child["metadata"]["ownerReferences"] = [{**owner, "uid": made["metadata"]["uid"]}]
        await cluster.create(CONFIG_MAP, child)
        version = (await cluster.list(CONFIG_MAP)).resource_version
        path, dry = f"{FUNCTIONS}/hello", "dryRun=All&fieldManager=me&force=true"
        body = orjson.dumps(hello(scaling={"maxReplicas": 3}))
        for headers in (APPLY, MERGE):
            answer = await api.patch(f"{path}?{dry}", content=body, headers=headers)
            assert (answer.json()["spec"]["scaling"]["maxReplicas"], answer.json()["metadata"]["generation"]) == (3, 2)
        replaced = await api.put(f"{path}?{dry}", json={**made, "spec": hello(scaling={"maxReplicas": 4})["spec"]})
        assert replaced.json()["spec"]["scaling"]["maxReplicas"] == 4
        assert (await api.post(f"{MAPS}?{dry}", json=config_map())).status_code == 201
        assert (await api.post(f"{FUNCTIONS}?{dry}", json=hello())).status_code == 409
        assert (await api.delete(f"{path}?{dry}")).json()["status"] == "Success"
        assert (await api.get(path)).json() == made
        page = await cluster.list(CONFIG_MAP)
        assert ([one["metadata"]["name"] for one in page.items], page.resource_version) == (["child"], version)

    async def test_a_job_whose_spec_makes_no_sense_is_no_defect(self, api: httpx.AsyncClient) -> None:
        jobs = "/kube/apis/batch/v1/namespaces/default/jobs"
        body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"suspend": True}}
        assert (await api.post(jobs, json=body)).status_code == 201
        answer = await api.patch(f"{jobs}/a", content=b'{"spec":["x"]}', headers=MERGE)
        assert (answer.status_code, "immutable" in answer.json()["message"]) == (422, True)

    async def test_orphans_stay(self, api: httpx.AsyncClient, cluster: Watched) -> None:
        owner = (await api.post(MAPS, json=config_map("owner"))).json()
        child = config_map("child")
        child["metadata"]["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        ]
        await api.post(MAPS, json=child)
        await api.delete(f"{MAPS}/owner?propagationPolicy=Orphan")
        left = await cluster.list(CONFIG_MAP, Selection("default"))
        assert [one["metadata"]["name"] for one in left.items] == ["child"]

    async def test_objects_outside_of_namespaces_are_written_too(
        self, api: httpx.AsyncClient, cluster: Watched
    ) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}
        assert (await api.post("/kube/api/v1/namespaces", json=body)).status_code == 201
        assert (await api.get("/kube/api/v1/namespaces/x")).json()["status"] == {"phase": "Active"}
        assert (await api.get("/kube/api/v1/namespaces/x/status")).status_code == 200
        assert await cluster.served(POD)


def test_a_path_is_split_before_it_is_unquoted() -> None:
    request = Request({"type": "http", "raw_path": b"/kube/api/v1/a%2Fb/", "headers": []})
    assert kubeapi.segments(request, "/kube") == ["api", "v1", "a/b"]
