"""What a delivery is answered, and what nobody learns."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from knative_lambda.api import kinds
from knative_lambda.cluster.base import Forbidden, Unavailable
from knative_lambda.receivers import documents
from knative_lambda.receivers.outcomes import ADVICE, STATUS, Outcome
from tests.unit.receivers.senders import TOKEN, body_of, headers_of, payload_of, signed
from tests.unit.receivers.stage import KEY, Stage

BODY = body_of("github")


def seen_by_sender(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    return answer.status_code, sorted(answer.headers.items()), answer.content


async def test_whoever_cannot_sign_always_gets_the_answer_of_a_path_that_is_not_there(stage: Stage) -> None:
    nowhere = seen_by_sender(await stage.post(BODY, signed("github", BODY), path="/nowhere"))
    assert nowhere[0] == 404

    async def answered(headers: dict[str, str], path: str | None = None) -> None:
        assert seen_by_sender(await stage.post(BODY, headers, path)) == nowhere

    await answered(signed("github", BODY), path="/hook/" + "0" * 64)
    await answered(signed("github", BODY), path=stage.path + "/")
    await answered(signed("github", BODY, token="guess"))
    await answered(headers_of("github"))
    await answered({"Content-Type": "application/json"})
    stage.repository(ref={"branch": "main"}, suspend=True)
    await answered(signed("github", BODY))
    stage.repository(ref={"branch": "main"}, deleting=True)
    await answered(signed("github", BODY))
    stage.repositories.remove(KEY)
    await answered(signed("github", BODY))
    empty = Stage()
    assert seen_by_sender(await empty.post(BODY, signed("github", BODY))) == nowhere
    assert empty.count("github", Outcome.NO_SECRET) == 1
    assert stage.asked == []


async def test_a_wrong_method_says_nothing_of_the_path(stage: Stage) -> None:
    known = await stage.post(b"", {}, method="GET")
    unknown = await stage.post(b"", {}, path="/hook/" + "0" * 64, method="GET")
    assert known.status_code == 405
    assert seen_by_sender(known) == seen_by_sender(unknown)


async def test_refusals_by_size_or_form_say_nothing_of_the_path(stage: Stage) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/json", "Content-Length": "99999999"}):
        known = await stage.post(b"", headers)
        unknown = await stage.post(b"", headers, path="/hook/" + "0" * 64)
        assert known.status_code in (413, 415)
        assert seen_by_sender(known) == seen_by_sender(unknown)


async def test_an_unknown_path_costs_about_as_much_as_a_wrong_signature(stage: Stage) -> None:
    """Roughly: both read the body, and hash it."""
    body = json.dumps({"a": "x" * 500_000}).encode()
    await stage.post(body, signed("github", body, token="guess"))

    async def fastest(path: str) -> float:
        headers = signed("github", body, token="guess")
        times = []
        for _ in range(15):
            began = time.perf_counter()
            await stage.post(body, headers, path)
            times.append(time.perf_counter() - began)
        return min(times)

    known, unknown = await fastest(stage.path), await fastest("/hook/" + "0" * 64)
    assert 0.5 < known / unknown < 2


# Secrets.


@pytest.mark.parametrize("case", ["absent", "another key", "empty", "only a line break", "forbidden", "unreachable"])
async def test_a_secret_that_cannot_be_had_refuses_everything(case: str) -> None:
    stage = Stage()
    if case == "another key":
        await stage.secret(key="password")
    elif case in ("empty", "only a line break"):
        await stage.secret("" if case == "empty" else "\n")
    elif case != "absent":
        await stage.secret()
        error = Forbidden("no") if case == "forbidden" else Unavailable("no")
        stage.cluster.fail_next("get", kinds.SECRET, error=error)
    for token in (TOKEN, "", "\n"):
        answer = await stage.post(BODY, signed("github", BODY, token=token))
        assert answer.status_code == 404
    assert stage.count("github", Outcome.NO_SECRET) == 3
    assert stage.notices.told == [("Warning", "WebhookRejected", ADVICE[Outcome.NO_SECRET])] * 3


async def test_a_secret_that_comes_late_works_within_seconds() -> None:
    stage = Stage()
    assert (await stage.deliver("github", BODY)).status_code == 404
    await stage.secret()
    await stage.clock.advance(2)
    assert (await stage.deliver("github", BODY)).status_code == 202


async def test_a_rotated_secret_works_without_a_restart_and_ends_the_old_one(stage: Stage) -> None:
    assert (await stage.deliver("github", BODY)).status_code == 202
    await stage.secret("the next token")
    await stage.clock.advance(10)
    old = await stage.deliver("github", BODY, x_github_delivery="2")
    new = await stage.deliver("github", BODY, token="the next token", x_github_delivery="3")
    assert (old.status_code, new.status_code) == (404, 202)


async def test_the_path_stays_when_the_secret_is_rotated(stage: Stage) -> None:
    assert stage.repository(webhook={"secretRef": {"name": "another"}}) == stage.path
    assert len(stage.path) == len("/hook/") + 64


async def test_a_line_break_at_the_end_of_a_secret_is_not_part_of_it(stage: Stage) -> None:
    await stage.secret(f"{TOKEN}\n")
    assert (await stage.deliver("github", BODY)).status_code == 202


async def test_a_hundred_deliveries_at_once_read_the_secret_once(stage: Stage) -> None:
    before = stage.cluster.counts.table().get(("get", kinds.SECRET), 0)
    ids = [str(number) for number in range(100)]
    answers = await asyncio.gather(*(stage.deliver("github", BODY, x_github_delivery=one) for one in ids))
    assert {answer.status_code for answer in answers} == {202}
    assert stage.cluster.counts.table()["get", kinds.SECRET] - before == 1


# Bodies.


async def test_a_form_is_refused_and_people_are_told_what_to_choose(stage: Stage) -> None:
    form = b"payload=" + BODY
    answer = await stage.deliver("github", form, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 415
    assert "application/json" in stage.notices.told[0][2]
    assert stage.asked == []


async def test_an_announced_giant_is_refused_before_a_byte_is_read(stage: Stage) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    headers = signed("github", b"") | {"Content-Length": str(100 * 2**20)}
    assert (await stage.post(never(), headers)).status_code == 413


async def test_a_streamed_giant_is_refused_as_soon_as_it_is_too_large(stage: Stage) -> None:
    sent = 0

    async def giant() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1600):
            sent += 65536
            yield b"x" * 65536

    assert (await stage.post(giant(), signed("github", b""))).status_code == 413
    assert sent <= 2**20 + 2 * 65536


async def test_a_body_of_exactly_the_limit_is_read(stage: Stage) -> None:
    body = BODY.rstrip() + b" " * (2**20 - len(BODY.rstrip()))
    assert (await stage.deliver("github", body)).status_code == 202
    assert (await stage.deliver("github", body + b" ")).status_code == 413


async def test_a_body_that_does_not_come_to_an_end_is_given_up(stage: Stage) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    posting = asyncio.create_task(stage.post(slow(), signed("github", b"{")))
    await stage.clock.advance(9.9)
    assert not posting.done()
    await stage.clock.advance(0.2)
    assert (await posting).status_code == 408
    assert stage.count("github", Outcome.TOO_SLOW) == 1


async def test_all_bodies_together_are_limited_and_given_back(stage: Stage) -> None:
    stage.world.budget.limit = 3000
    ends = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        await ends.wait()

    slow = [asyncio.create_task(stage.post(half(), signed("github", b""))) for _ in range(3)]
    await stage.clock.advance(0)
    assert stage.world.budget.held == 3000
    assert (await stage.deliver("github", b"{}")).status_code == 503
    ends.set()
    await asyncio.gather(*slow)
    assert stage.world.budget.held == 0
    assert (await stage.deliver("github", BODY)).status_code == 202
    assert (await stage.deliver("github", b"x" * 5000)).status_code == 503
    assert stage.world.budget.held == 0


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b'{"a": [1, 2',
        b"not json",
        b"",
        b"[1]",
        b'"text"',
        b"\xff\xfe",
        b'{"a": NaN}',
    ],
    ids=["brackets", "33 deep", "cut", "words", "nothing", "list", "string", "not utf-8", "nan"],
)
async def test_signed_nonsense_is_called_nonsense(stage: Stage, body: bytes) -> None:
    answer = await stage.deliver("github", body)
    assert (answer.status_code, answer.json()["status"]) == (400, "malformed")
    assert stage.asked == []


async def test_unsigned_nonsense_is_not_even_parsed(stage: Stage) -> None:
    assert (await stage.deliver("github", b"[" * 100_000, token="guess")).status_code == 404


def test_depth_is_counted_in_containers_and_not_in_brackets() -> None:
    documents.parse(json.dumps({"a": "[" * 1000 + '"\\' + "{" * 1000, "b": [[]] * 1000}).encode())
    documents.parse(b'{"a":' * 32 + b"1" + b"}" * 32)
    with pytest.raises(documents.Malformed, match="deeper than 32"):
        documents.parse(b'{"a":' * 33 + b"1" + b"}" * 33)
    with pytest.raises(documents.Malformed, match="very deep"):
        documents.parse(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)


async def test_a_long_body_is_parsed_beside_the_loop(stage: Stage) -> None:
    payload = payload_of("github") | {"padding": ["x" * 100] * 2000}
    assert (await stage.deliver("github", payload)).status_code == 202


# Replays.


async def test_the_same_delivery_again_asks_for_nothing(stage: Stage) -> None:
    first, second = await stage.deliver("github", BODY), await stage.deliver("github", BODY)
    assert (first.json()["status"], second.json()["status"]) == ("accepted", "duplicate")
    assert second.status_code == 202
    assert stage.asked == [KEY]
    await stage.clock.advance(3601)
    assert (await stage.deliver("github", BODY)).json()["status"] == "accepted"


async def test_somebody_elses_use_of_an_id_does_not_spend_it(stage: Stage) -> None:
    """No forge signs the id: an old body under a stolen id must not silence the new push."""
    other = json.dumps(payload_of("github") | {"compare": "old"}).encode()
    assert (await stage.deliver("github", other)).json()["status"] == "accepted"
    assert (await stage.deliver("github", BODY)).json()["status"] == "accepted"


async def test_what_was_refused_is_not_remembered(stage: Stage) -> None:
    await stage.deliver("github", BODY, token="guess")
    assert (await stage.deliver("github", BODY)).json()["status"] == "accepted"


async def test_few_deliveries_are_remembered(stage: Stage) -> None:
    accepted = stage.world.accepted
    for number in range(10_050):
        accepted.add(("uid", str(number), b""))
    assert len(accepted) == 10_000
    assert ("uid", "49", b"") not in accepted
    assert ("uid", "50", b"") in accepted


# What is told.


async def test_rejections_are_told_on_the_repository_and_never_for_unknown_paths(stage: Stage) -> None:
    await stage.post(BODY, signed("github", BODY), path="/hook/" + "0" * 64)
    assert stage.notices.told == []
    assert stage.count("github", Outcome.UNKNOWN_PATH) == 1
    await stage.deliver("github", BODY, token="guess")
    assert stage.notices.told == [("Warning", "WebhookRejected", ADVICE[Outcome.WRONG_SIGNATURE])]


async def test_labels_are_bounded_whatever_is_sent(stage: Stage) -> None:
    for number in range(50):
        await stage.post(b"{}", {"Content-Type": "application/json", "X-GitHub-Event": f"event-{number}"})
        await stage.post(b"{}", {"Content-Type": "application/json", f"X-Forge-{number}": "push"})
    labels = {forge for forge, _ in stage.world.counts.deliveries}
    assert labels == {"github", "unknown"}


async def test_no_note_and_no_answer_holds_the_token(stage: Stage) -> None:
    answers = [
        await stage.deliver("gitlab", b"nonsense"),
        await stage.deliver("gitlab", body_of("gitlab")),
        await stage.deliver("gitlab", b"{}", token=f"{TOKEN}x"),
    ]
    said = " ".join([*(answer.text for answer in answers), *(note for _, _, note in stage.notices.told)])
    assert TOKEN not in said


def test_every_outcome_has_an_answer() -> None:
    assert set(STATUS) == set(Outcome)
    assert {status for outcome, status in STATUS.items() if outcome in ADVICE} == {400, 404, 408, 413, 415}
