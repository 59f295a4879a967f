"""Every forge's own delivery is understood, and only when it is signed."""

from __future__ import annotations

import hmac
import json
from datetime import timedelta

import pytest

from knative_lambda.receivers import forges
from knative_lambda.receivers.base import Delivery, Verdict
from knative_lambda.receivers.github import GitHub
from knative_lambda.receivers.outcomes import Outcome
from tests.unit.receivers.senders import (
    FORGES,
    TOKEN,
    body_of,
    headers_of,
    hexed,
    moved,
    payload_of,
    signed,
    standard_webhook,
)
from tests.unit.receivers.stage import KEY, Stage

WHSEC = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def test_every_sample_is_taken_for_its_own_forge() -> None:
    for forge in FORGES:
        headers = {name.lower(): value for name, value in signed(forge, b"{}").items()}
        found = forges.match(headers)
        assert found is not None
        assert found.name == forge
    assert forges.match({"content-type": "application/json"}) is None


def test_githubs_own_test_vector_is_good(stage: Stage) -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    delivery = Delivery({"x-hub-signature-256": signature}, b"Hello, World!", stage.clock.now())
    assert GitHub().verify(delivery, b"It's a Secret to Everybody") is Verdict.GOOD
    assert GitHub().verify(delivery, b"It's a secret to everybody") is Verdict.WRONG


@pytest.mark.parametrize("forge", FORGES)
async def test_a_sample_that_is_signed_asks_for_one_look(stage: Stage, forge: str) -> None:
    answer = await stage.deliver(forge, body_of(forge))
    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
    assert stage.asked == [KEY]
    assert stage.count(forge, Outcome.ACCEPTED) == 1
    assert stage.notices.told == []


@pytest.mark.parametrize("forge", FORGES)
async def test_a_sample_that_is_not_signed_right_asks_for_nothing(stage: Stage, forge: str) -> None:
    body = body_of(forge)
    right = signed(forge, body)
    (name, value), *_ = [item for item in right.items() if item not in headers_of(forge).items()]
    without = {key: one for key, one in right.items() if key != name}
    tries = [
        signed(forge, body, token="another token"),
        {**without, name: value[:-1]},
        {**without, name: value[:12]},
        {**without, name: ""},
        {**without, name: value + "0"},
        {**without, name: "sha256="},
        {**without, name: "ä"},
        without,
    ]
    for headers in tries:
        answer = await stage.post(body, {key: one.encode() for key, one in headers.items()})
        assert answer.status_code == 404
    if forge != "gitlab":  # whose plain token signs nothing
        assert (await stage.post(body + b" ", right)).status_code == 404
    assert stage.asked == []


@pytest.mark.parametrize("forge", [*FORGES, "gitlab, signed"])
async def test_the_word_of_the_comparison_in_constant_time_is_the_last_one(
    stage: Stage, forge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hmac.compare_digest says yes to what is wrong and no to what is right, and is believed; it is given all of it."""
    compared: list[int] = []
    body = body_of(forge.partition(",")[0])
    right, wrong = signed(forge.partition(",")[0], body), signed(forge.partition(",")[0], body, token="guess")
    if forge == "gitlab, signed":
        await stage.secret(WHSEC)
        right = standard_webhook(body, token=WHSEC, at=stage.clock.now())
        wrong = right | {"webhook-signature": f"v1,{'A' * 43}="}
    for headers, word, status in ((right, False, 404), (wrong, True, 202)):

        def compare(one: bytes, other: bytes, *, word: bool = word) -> bool:
            compared.append(min(len(one), len(other)))
            return word

        monkeypatch.setattr(hmac, "compare_digest", compare)
        assert (await stage.post(body, headers)).status_code == status
    assert len(compared) == 2
    assert min(compared) >= 32


@pytest.mark.parametrize(
    ("forge", "header"),
    [
        ("github", "X-Hub-Signature"),
        ("bitbucket-cloud", "X-Hub-Signature"),
        ("bitbucket-server", "X-Hub-Signature"),
        ("gitea", "X-Hub-Signature"),
        ("generic", "X-Signature"),
    ],
)
async def test_sha1_alone_is_refused_although_it_is_right(stage: Stage, forge: str, header: str) -> None:
    body = body_of(forge)
    answer = await stage.post(body, {**headers_of(forge), header: f"sha1={hexed(TOKEN, body, 'sha1')}"})
    assert answer.status_code == 404
    assert stage.count(forge, Outcome.WEAK_SIGNATURE) == 1
    assert "SHA-1" in stage.notices.told[0][2]


@pytest.mark.parametrize("forge", FORGES)
async def test_another_branch_a_tag_and_a_deleted_branch_are_accepted_and_ignored(stage: Stage, forge: str) -> None:
    for number, payload in enumerate(
        (
            moved(forge, "refs/heads/other"),
            moved(forge, "refs/tags/main"),
            moved(forge, "refs/heads/main", deleted=True),
        )
    ):
        answer = await stage.deliver(forge, payload)
        assert (answer.status_code, answer.json()["status"]) == (202, "ignored"), answer.text
        assert stage.count(forge, Outcome.IGNORED) == number + 1
    assert stage.asked == []


@pytest.mark.parametrize("forge", FORGES)
async def test_a_repository_that_follows_a_tag_hears_of_that_tag(forge: str) -> None:
    stage = Stage(spec={"ref": {"tag": "v1"}})
    await stage.secret()
    assert (await stage.deliver(forge, moved(forge, "refs/heads/v1"))).json()["status"] == "ignored"
    assert (await stage.deliver(forge, moved(forge, "refs/tags/v1"))).json()["status"] == "accepted"
    assert stage.asked == [KEY]


@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea", "generic"])
async def test_without_a_ref_only_the_default_branch_counts_where_the_forge_names_it(forge: str) -> None:
    stage = Stage(spec={"path": ""})
    await stage.secret()
    assert (await stage.deliver(forge, moved(forge, "refs/heads/other"))).json()["status"] == "ignored"
    assert (await stage.deliver(forge, moved(forge, "refs/heads/main"))).json()["status"] == "accepted"


@pytest.mark.parametrize("forge", ["bitbucket-cloud", "bitbucket-server"])
async def test_without_a_ref_every_branch_counts_where_the_forge_names_no_default(forge: str) -> None:
    stage = Stage(spec={"path": ""})
    await stage.secret()
    assert (await stage.deliver(forge, moved(forge, "refs/heads/other"))).json()["status"] == "accepted"


@pytest.mark.parametrize("forge", FORGES)
async def test_a_signed_payload_of_another_shape_asks_for_a_look_rather_than_missing_one(
    stage: Stage, forge: str
) -> None:
    for payload in ({}, {"ref": 7, "push": [], "changes": {"a": 1}}, {"push": {"changes": [{"new": "x"}]}}):
        answer = await stage.deliver(forge, payload, **_fresh(forge, str(payload)))
        assert answer.json()["status"] == "accepted", (payload, answer.text)


def _fresh(forge: str, seed: str) -> dict[str, str]:
    """A delivery id of its own."""
    name = next(
        (
            one
            for one in headers_of(forge)
            if one.lower().endswith(("-delivery", "-request-uuid", "-request-id", "-key"))
        ),
        "X-Delivery-Id",
    )
    return {} if name == "X-Event-Key" else {name.lower().replace("-", "_"): seed[:30]}


async def test_pings_are_answered_and_ask_for_nothing(stage: Stage) -> None:
    answer = await stage.deliver("github", {"zen": "Keep it logically awesome."}, x_github_event="ping")
    assert (answer.status_code, answer.json()["status"]) == (202, "ping")
    answer = await stage.deliver("bitbucket-server", {"test": True}, x_event_key="diagnostics:ping")
    assert answer.json()["status"] == "ping"
    assert stage.asked == []


@pytest.mark.parametrize(
    ("forge", "header", "event"),
    [
        ("github", "x_github_event", "issues"),
        ("gitlab", "x_gitlab_event", "Issue Hook"),
        ("bitbucket-cloud", "x_event_key", "pullrequest:created"),
        ("bitbucket-server", "x_event_key", "pr:opened"),
        ("gitea", "x_gitea_event", "issues"),
    ],
)
async def test_other_events_are_ignored(stage: Stage, forge: str, header: str, event: str) -> None:
    answer = await stage.deliver(forge, payload_of(forge), **{header: event})
    assert (answer.status_code, answer.json()["status"]) == (202, "ignored")
    assert stage.asked == []


async def test_one_bitbucket_push_of_several_branches_counts_when_one_is_followed(stage: Stage) -> None:
    payload = moved("bitbucket-cloud", "refs/heads/other")
    payload["push"]["changes"] += payload_of("bitbucket-cloud")["push"]["changes"]
    assert (await stage.deliver("bitbucket-cloud", payload)).json()["status"] == "accepted"


async def test_forgejo_and_the_github_alias_of_gitea_are_understood(stage: Stage) -> None:
    body = body_of("gitea")
    forgejo = {
        "Content-Type": "application/json",
        "X-Forgejo-Event": "push",
        "X-Forgejo-Delivery": "1",
        "X-Forgejo-Signature": hexed(TOKEN, body),
    }
    assert (await stage.post(body, forgejo)).status_code == 202
    alias = {**headers_of("gitea"), "X-Hub-Signature-256": f"sha256={hexed(TOKEN, body)}"}
    assert (await stage.post(body, alias)).status_code == 202
    assert len(stage.asked) == 2


async def test_generic_takes_sha512_and_no_algorithm_that_it_does_not_know(stage: Stage) -> None:
    body = body_of("generic")
    headers = headers_of("generic")
    assert (
        await stage.post(body, headers | {"X-Signature": f"sha512={hexed(TOKEN, body, 'sha512')}"})
    ).status_code == 202
    assert (
        await stage.post(body, headers | {"X-Signature": f"sha224={hexed(TOKEN, body, 'sha224')}"})
    ).status_code == 404
    assert (await stage.post(body, headers | {"X-Signature": f"md5={hexed(TOKEN, body, 'md5')}"})).status_code == 404


async def test_gitlabs_signature_is_good_for_five_minutes(stage: Stage) -> None:
    await stage.secret(WHSEC)
    body, now = body_of("gitlab"), stage.clock.now()
    for number, (age, status) in enumerate([(0, 202), (299, 202), (-299, 202), (301, 404), (-301, 404)]):
        headers = standard_webhook(body, token=WHSEC, at=now - timedelta(seconds=age), identity=f"msg_{number}")
        assert (await stage.post(body, headers)).status_code == status, age
    assert stage.count("gitlab", Outcome.STALE) == 2
    assert len(stage.asked) == 3


async def test_gitlabs_signature_covers_id_time_and_body(stage: Stage) -> None:
    await stage.secret(WHSEC)
    body = body_of("gitlab")
    good = standard_webhook(body, token=WHSEC, at=stage.clock.now())
    for change in (
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)},
        {"webhook-timestamp": "soon"},
        {"webhook-signature": good["webhook-signature"][:-4]},
        {"webhook-signature": good["webhook-signature"].replace("v1,", "v2,")},
    ):
        assert (await stage.post(body, good | change)).status_code == 404, change
    assert (await stage.post(body + b"\n", good)).status_code == 404
    rotating = good | {"webhook-signature": f"v1,AAAA {good['webhook-signature']}"}
    assert (await stage.post(body, rotating)).status_code == 202


async def test_a_signing_secret_of_gitlab_is_never_accepted_as_a_plain_token(stage: Stage) -> None:
    await stage.secret(WHSEC)
    body = json.dumps(payload_of("gitlab")).encode()
    answer = await stage.post(body, signed("gitlab", body, token=WHSEC))
    assert answer.status_code == 404
    assert stage.count("gitlab", Outcome.UNSIGNED) == 1
