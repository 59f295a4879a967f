"""Tables of snapshot -> plan: every step and every failure of it."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from knative_lambda.api import meta
from knative_lambda.api.conditions import Condition, ConditionType, Reason, Status
from knative_lambda.api.function import FunctionStatus, LambdaFunction
from knative_lambda.api.phases import Phase
from knative_lambda.reconcile.act import Outcome
from knative_lambda.reconcile.conclude import conclude
from knative_lambda.reconcile.decide import decide
from knative_lambda.reconcile.plan import Apply, Create, Delete, Hold, Plan, Stall, Verdict, Wait
from knative_lambda.reconcile.settled import Settled
from knative_lambda.reconcile.snapshot import Seen, Snapshot, Unreadable
from knative_lambda.resources import build_request, names, observed
from tests import gen

pytestmark = pytest.mark.scenario

READY, STALLED, RECONCILING = ConditionType.READY, ConditionType.STALLED, ConditionType.RECONCILING
BUILD, SERVICE, DEPLOY = ConditionType.BUILD_READY, ConditionType.SERVICE_READY, ConditionType.DEPLOY_READY


class Decided:
    """A plan and the status that follows from it when every write succeeds."""

    def __init__(self, seen: Seen, settings: Any = gen.SETTINGS) -> None:
        self.plan: Plan = decide(seen, settings)
        self.status: FunctionStatus = conclude(seen, self.plan, Outcome())
        self.rows: dict[str, Condition] = {one.type: one for one in self.status.conditions}

    def says(self, kind: ConditionType) -> tuple[Status, str]:
        row = self.rows[kind.value]
        return row.status, row.reason

    @property
    def writes(self) -> list[str]:
        return [_spelled(write) for write in self.plan.writes]

    @property
    def verdict(self) -> Verdict:
        """The first that is not Go."""
        return next(one for one in self.plan.verdicts if isinstance(one, Stall | Wait))


def _spelled(write: Any) -> str:
    if isinstance(write, Hold):
        return "hold"
    if isinstance(write, Delete):
        return f"delete {write.kind.kind} {write.key.name}"
    return f"{'create' if isinstance(write, Create) else 'apply'} {write.kind.kind}"


def decided(fn: LambdaFunction, **parts: Any) -> Decided:
    return Decided(gen.snapshot(fn, **parts))


# ---- a function's life ----


def test_new_function_gets_its_job_before_anything_else() -> None:
    fn = gen.lambda_function()
    found = decided(fn)
    assert found.writes == ["create Job"]
    assert found.says(BUILD) == (Status.UNKNOWN, Reason.BUILDING)
    assert found.says(READY) == (Status.UNKNOWN, Reason.BUILDING)
    assert found.says(RECONCILING)[0] is Status.TRUE
    assert found.status.phase is Phase.BUILDING
    assert found.status.build_status is not None
    assert found.status.build_status.job_name == names.kaniko_job(fn, gen.build_digest(fn))


def test_build_waits_while_job_runs_and_changes_nothing() -> None:
    first = decided(gen.lambda_function())
    fn = gen.lambda_function().model_copy(update={"status": first.status})
    again = decided(fn, jobs=(gen.job(fn),))
    assert again.writes == []
    assert again.status == first.status


def test_built_function_is_held_then_deployed_by_digest() -> None:
    fn = gen.lambda_function("hello", gen.building())
    job = gen.job(fn, gen.complete())
    found = decided(fn, jobs=(job,), pods=(gen.pod(job),))
    assert found.writes == ["hold", "apply Service"]
    service = found.plan.writes[1]
    assert isinstance(service, Apply)
    container = service.manifest["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"localhost:5001/tenant-1/hello@{gen.IMAGE_DIGEST}"
    assert found.says(BUILD) == (Status.TRUE, Reason.BUILD_SUCCEEDED)
    assert found.says(DEPLOY) == (Status.TRUE, Reason.DEPLOYED)
    assert found.says(READY) == (Status.UNKNOWN, Reason.DEPLOYING)
    assert found.status.phase is Phase.DEPLOYING


def test_function_that_git_made_with_a_finalizer_is_deployed_at_once() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built())
    assert decided(fn).writes == ["apply Service"]


def test_build_that_the_status_knows_needs_no_job_any_more() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built())
    found = decided(fn, service=gen.service(fn, gen.service_ready()))
    assert found.writes == []
    assert found.says(READY) == (Status.TRUE, Reason.READY)
    assert found.status.phase is Phase.READY
    assert found.status.url == "http://hello.tenant-1.example.com"
    assert RECONCILING.value not in found.rows
    assert STALLED.value not in found.rows


def test_waiting_for_knative_changes_no_status() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built())
    first = decided(fn)
    later = fn.model_copy(update={"status": first.status})
    progress = gen.with_status(
        observedGeneration=1, conditions=[{"type": "Ready", "status": "Unknown"}], url="http://x"
    )
    assert decided(later, service=gen.service(later, progress)).status == first.status


def test_ready_of_an_older_generation_does_not_count() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built())
    stale = gen.with_status(**gen.ready_status(generation=0))
    assert decided(fn, service=gen.service(fn, stale)).says(SERVICE)[0] is Status.UNKNOWN


def test_ready_function_stays_as_it_is_when_looked_at_again() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built())
    service = gen.service(fn, gen.service_ready())
    first = decided(fn, service=service)
    again = decided(fn.model_copy(update={"status": first.status}), service=service)
    assert again.writes == []
    assert again.status == first.status


def test_ready_image_is_deployed_without_a_build() -> None:
    fn = gen.lambda_function("hello", gen.with_source(gen.image("ghcr.io/me/hello:1.0")))
    found = decided(fn)
    assert found.writes == ["hold", "apply Service"]
    assert found.says(BUILD) == (Status.TRUE, Reason.IMAGE_GIVEN)
    assert found.status.image == "ghcr.io/me/hello:1.0"


def test_rebuild_annotation_makes_another_job() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built(), gen.annotated(meta.ANNOTATION_REBUILD, "now"))
    assert decided(fn, service=gen.service(fn, gen.service_ready())).writes == ["create Job"]


# ---- the spec and the source ----


def test_unknown_runtime_stalls_and_names_what_is_known() -> None:
    found = decided(gen.lambda_function("hello", gen.with_runtime("python", "2.7")))
    assert found.writes == []
    assert found.says(READY) == (Status.FALSE, Reason.UNKNOWN_RUNTIME)
    assert found.says(STALLED)[0] is Status.TRUE
    assert "python 2.7 has no builder; known: python 3.12, 3.13; nodejs 22" in found.rows[READY.value].message
    assert found.status.phase is Phase.FAILED


def test_unreachable_source_waits_longer_the_longer_it_is_away() -> None:
    fresh = decided(gen.lambda_function("hello", gen.with_source(gen.branch())), resolution=gen.unresolved())
    assert fresh.says(ConditionType.SOURCE_READY) == (Status.UNKNOWN, Reason.UNREACHABLE)
    assert fresh.status.phase is Phase.PENDING
    old = gen.with_condition(ConditionType.SOURCE_READY, Status.UNKNOWN, Reason.UNREACHABLE, ago=90)
    again = decided(gen.lambda_function("hello", gen.with_source(gen.branch()), old), resolution=gen.unresolved())
    assert isinstance(fresh.verdict, Wait)
    assert isinstance(again.verdict, Wait)
    assert (fresh.verdict.after, again.verdict.after) == (5, 90)


def test_unreachable_source_is_asked_every_five_minutes_in_the_end() -> None:
    old = gen.with_condition(ConditionType.SOURCE_READY, Status.UNKNOWN, Reason.UNREACHABLE, ago=86_400)
    found = decided(gen.lambda_function("hello", gen.with_source(gen.branch()), old), resolution=gen.unresolved())
    assert isinstance(found.verdict, Wait)
    assert found.verdict.after == 300


@pytest.mark.parametrize(
    "reason",
    [Reason.REF_NOT_FOUND, Reason.AUTHENTICATION_FAILED, Reason.SECRET_NOT_FOUND, Reason.SOURCE_UNSUPPORTED],
)
def test_source_that_a_person_must_mend_stalls(reason: Reason) -> None:
    fn = gen.lambda_function("hello", gen.with_source(gen.branch("gone")))
    found = decided(fn, resolution=gen.unresolved(reason, "there is no ref gone", retry=False))
    assert found.writes == []
    assert found.says(READY) == (Status.FALSE, reason)
    assert found.says(BUILD) == (Status.UNKNOWN, Reason.PENDING)


def test_branch_is_pinned_in_the_build_request_to_what_it_was_resolved_to() -> None:
    found = decided(gen.lambda_function("hello", gen.with_source(gen.branch("main"))))
    job = found.plan.writes[0]
    assert isinstance(job, Create)
    env = job.manifest["spec"]["template"]["spec"]["initContainers"][0]["env"]
    request = build_request.decode(env[0]["value"])
    assert request.source.git is not None
    assert request.source.git.commit == gen.COMMIT


def test_object_of_another_release_stalls_until_it_is_mended() -> None:
    metadata = gen.lambda_function("hello", gen.held()).metadata
    seen = Unreadable(metadata=metadata, status=FunctionStatus(), problem="spec.source: Field required", now=gen.NOW)
    found = Decided(seen)
    assert found.writes == []
    assert found.says(READY) == (Status.FALSE, Reason.INVALID_SPEC)
    assert "spec.source" in found.rows[READY.value].message


# ---- builds that go wrong ----


@pytest.mark.parametrize(
    "registry",
    ["ghcr.io/me/hello:latest", "ghcr.io//hello", "ghcr.io/me/hello/", "localhost:5001/-x"],
)
def test_repository_that_is_no_image_name_stalls(registry: str) -> None:
    found = decided(gen.lambda_function("hello", gen.with_spec(build={"registry": registry})))
    assert found.writes == []
    assert found.says(BUILD) == (Status.FALSE, Reason.IMAGE_NAME_INVALID)
    assert registry in found.rows[BUILD.value].message


@pytest.mark.parametrize("uri", ["ghcr.io/me/Hello:1", "a//b", "ghcr.io/me/x@sha256:12"])
def test_given_image_that_is_no_image_name_stalls(uri: str) -> None:
    found = decided(gen.lambda_function("hello", gen.with_source(gen.image(uri))))
    assert found.writes == []
    assert found.says(READY) == (Status.FALSE, Reason.IMAGE_NAME_INVALID)


def test_failed_build_shows_the_end_of_its_log_without_secrets() -> None:
    fn = gen.lambda_function("hello", gen.building())
    job = gen.job(fn, gen.failed())
    log = "Collecting requests\nERROR: could not open https://user:hunter2@pypi.example/simple: no such package"
    found = decided(fn, jobs=(job,), pods=(gen.pod(job, exit_code=1, message=log),))
    assert found.writes == []
    assert found.says(BUILD) == (Status.FALSE, Reason.BUILD_FAILED)
    assert found.status.build_status is not None
    assert "no such package" in found.status.build_status.error
    assert "hunter2" not in found.status.build_status.error
    assert found.status.phase is Phase.FAILED


def test_refused_source_says_that_fetching_failed() -> None:
    fn = gen.lambda_function("hello", gen.building())
    job = gen.job(fn, gen.failed("PodFailurePolicy"))
    pod = gen.pod(job, container="build-context", exit_code=65, message="handler file main.py is missing")
    found = decided(fn, jobs=(job,), pods=(pod,))
    assert "fetching the source failed" in found.rows[BUILD.value].message
    assert "main.py is missing" in found.rows[BUILD.value].message


def test_failed_push_does_not_pass_its_digest_off_as_a_log() -> None:
    fn = gen.lambda_function("hello", gen.building())
    job = gen.job(fn, gen.failed())
    found = decided(fn, jobs=(job,), pods=(gen.pod(job, exit_code=1, message=gen.IMAGE_DIGEST),))
    assert "while it pushed the image" in found.rows[BUILD.value].message


def test_build_that_never_ends_is_a_timeout() -> None:
    fn = gen.lambda_function("hello", gen.building())
    found = decided(fn, jobs=(gen.job(fn, gen.failed("DeadlineExceeded")),))
    assert found.says(BUILD) == (Status.FALSE, Reason.BUILD_TIMEOUT)
    assert "30m" in found.rows[BUILD.value].message


def test_failed_build_without_its_pod_waits_a_moment_and_then_says_what_the_job_says() -> None:
    fn = gen.lambda_function("hello", gen.building())
    young = decided(fn, jobs=(gen.job(fn, gen.failed(), ended=1),))
    assert young.says(BUILD) == (Status.UNKNOWN, Reason.BUILDING)
    assert isinstance(young.verdict, Wait)
    assert young.verdict.after == 2
    old = decided(fn, jobs=(gen.job(fn, gen.failed(), ended=60),))
    assert old.says(BUILD) == (Status.FALSE, Reason.BUILD_FAILED)
    assert "backoff limit" in old.rows[BUILD.value].message


@pytest.mark.parametrize("reason", [Reason.BUILD_FAILED, Reason.BUILD_TIMEOUT, Reason.BUILD_UNTRUSTED])
def test_failed_build_is_not_tried_again_by_itself(reason: Reason) -> None:
    fn = gen.lambda_function("hello", gen.build_failed("no such module", reason))
    found = decided(fn)
    assert found.writes == []
    assert found.says(BUILD) == (Status.FALSE, reason)
    assert found.rows[BUILD.value].message == "no such module"


def test_failed_build_is_tried_again_when_asked() -> None:
    fn = gen.lambda_function("hello", gen.build_failed(), gen.annotated(meta.ANNOTATION_REBUILD, "1"))
    assert decided(fn).writes == ["create Job"]


def test_digest_of_a_complete_job_is_waited_for_quietly() -> None:
    fn = gen.lambda_function("hello", gen.building())
    found = decided(fn, jobs=(gen.job(fn, gen.complete(), ended=3),))
    assert found.writes == []
    assert found.says(BUILD) == (Status.UNKNOWN, Reason.BUILDING)
    assert isinstance(found.verdict, Wait)
    assert found.verdict.after == 2


def test_complete_job_without_a_digest_is_not_trusted() -> None:
    fn = gen.lambda_function("hello", gen.building())
    found = decided(fn, jobs=(gen.job(fn, gen.complete(), ended=600),))
    assert found.writes == []
    assert found.says(BUILD) == (Status.FALSE, Reason.BUILD_UNTRUSTED)


@pytest.mark.parametrize("message", ["", "sha256:abc", f"{gen.IMAGE_DIGEST} and more", "evil.example/x"])
def test_message_that_is_no_digest_is_not_trusted(message: str) -> None:
    fn = gen.lambda_function("hello", gen.building())
    job = gen.job(fn, gen.complete())
    found = decided(fn, jobs=(job,), pods=(gen.pod(job, message=message),))
    assert found.writes == []
    assert found.says(BUILD) == (Status.FALSE, Reason.BUILD_UNTRUSTED)


def test_digest_of_another_jobs_pod_is_not_trusted() -> None:
    fn = gen.lambda_function("hello", gen.building())
    job = gen.job(fn, gen.complete())
    forged = replace(gen.pod(job), job_uid="another")
    assert decided(fn, jobs=(job,), pods=(forged,)).says(BUILD)[0] is Status.UNKNOWN


def test_digest_of_a_failed_attempt_is_not_trusted() -> None:
    fn = gen.lambda_function("hello", gen.building())
    job = gen.job(fn, gen.complete())
    later = gen.NOW + timedelta(seconds=1)
    failed = replace(gen.pod(job, exit_code=1, message=gen.OTHER_DIGEST), created=later)
    found = decided(fn, jobs=(job,), pods=(failed, gen.pod(job)))
    assert found.status.build_status is not None
    assert found.status.build_status.image_uri.endswith(gen.IMAGE_DIGEST)


def test_digest_before_the_job_is_complete_is_not_trusted() -> None:
    fn = gen.lambda_function("hello", gen.building())
    job = gen.job(fn)
    assert decided(fn, jobs=(job,), pods=(gen.pod(job),)).says(BUILD) == (Status.UNKNOWN, Reason.BUILDING)


def test_failed_counter_of_a_job_that_still_retries_is_no_failure() -> None:
    fn = gen.lambda_function("hello", gen.building())
    job = gen.job(fn, gen.with_status(failed=1, conditions=[{"type": "FailureTarget", "status": "True"}]))
    assert decided(fn, jobs=(job,)).says(BUILD) == (Status.UNKNOWN, Reason.BUILDING)


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
def test_build_pod_that_cannot_start_says_why_in_steady_words(reason: str) -> None:
    fn = gen.lambda_function("hello", gen.building())
    job = gen.job(fn)
    found = decided(fn, jobs=(job,), pods=(gen.blocked_pod(job, reason),))
    assert found.rows[BUILD.value].message.endswith("container kaniko: its image cannot be pulled")


def test_job_of_a_stranger_is_left_alone() -> None:
    fn = gen.lambda_function()
    found = decided(fn, jobs=(gen.job(fn, gen.stranger()),))
    assert found.writes == []
    assert found.says(BUILD) == (Status.FALSE, Reason.NOT_OWNED)


def test_code_that_no_build_can_carry_stalls() -> None:
    noise = "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9FFF), k=65_536)))
    found = decided(gen.lambda_function("hello", gen.with_source(gen.inline(noise))))
    assert found.writes == []
    assert found.says(BUILD) == (Status.FALSE, Reason.INVALID_SPEC)
    assert "git repository" in found.rows[BUILD.value].message


# ---- a new spec over an old one ----


def _updated(*parts: gen.Part) -> LambdaFunction:
    """A function that was Ready in generation 1, with a status that says so, and has been changed since."""
    before = gen.lambda_function("hello", gen.held(), gen.built())
    status = decided(before, service=gen.service(before, gen.service_ready())).status
    changed = gen.lambda_function("hello", gen.held(), *parts, generation=2)
    return changed.model_copy(update={"status": status})


def _former_service() -> observed.ServiceSeen:
    return gen.service(gen.lambda_function("hello"), gen.service_ready())


def test_old_image_stays_deployed_while_the_new_one_is_built() -> None:
    fn = _updated(gen.with_source(gen.inline("def handler(event): return 2\n")))
    found = decided(fn, service=_former_service())
    assert found.writes == ["create Job"]
    assert found.says(READY) == (Status.UNKNOWN, Reason.BUILDING)
    assert found.says(SERVICE) == (Status.TRUE, Reason.SERVICE_READY)
    assert found.status.image == gen.pinned(fn)
    assert found.status.url == "http://hello.tenant-1.example.com"


def test_old_image_stays_deployed_when_the_new_build_fails() -> None:
    fn = _updated(gen.with_source(gen.inline("def handler(event): return 2\n")))
    job = gen.job(fn, gen.failed(), ended=60)
    found = decided(fn, service=_former_service(), jobs=(job,))
    assert found.writes == []
    assert found.says(READY) == (Status.FALSE, Reason.BUILD_FAILED)
    assert found.says(SERVICE) == (Status.TRUE, Reason.SERVICE_READY)


def test_changed_environment_deploys_the_same_image_without_a_build() -> None:
    fn = _updated(gen.with_spec(env=[{"name": "COLOUR", "value": "red"}]))
    found = decided(fn, service=_former_service())
    assert found.writes == ["apply Service"]
    assert found.says(SERVICE)[0] is Status.UNKNOWN
    write = found.plan.writes[0]
    assert isinstance(write, Apply)
    assert write.force


def test_build_of_a_former_source_is_cancelled() -> None:
    former = gen.job(gen.lambda_function("hello"))
    fn = _updated(gen.with_source(gen.inline("def handler(event): return 2\n")))
    found = decided(fn, service=_former_service(), jobs=(former,))
    assert found.writes == ["create Job", f"delete Job {former.key.name}"]


def test_finished_jobs_of_former_sources_keep_their_logs() -> None:
    former = gen.job(gen.lambda_function("hello"), gen.failed())
    fn = _updated(gen.with_source(gen.inline("def handler(event): return 2\n")))
    assert decided(fn, service=_former_service(), jobs=(former,)).writes == ["create Job"]


def test_build_goes_on_while_the_new_source_is_not_known() -> None:
    former = gen.job(gen.lambda_function("hello"))
    fn = _updated(gen.with_source(gen.branch()))
    found = decided(fn, service=_former_service(), jobs=(former,), resolution=gen.unresolved())
    assert found.writes == []


# ---- the Service ----


def test_service_of_a_stranger_is_left_alone_while_the_build_goes_on() -> None:
    fn = gen.lambda_function()
    found = decided(fn, service=gen.service(fn, gen.stranger()))
    assert found.writes == ["create Job"]
    assert found.says(DEPLOY) == (Status.FALSE, Reason.NOT_OWNED)
    assert found.says(READY) == (Status.FALSE, Reason.NOT_OWNED)


def test_service_without_an_owner_is_a_strangers() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built())
    service = gen.service(fn, lambda raw: raw["metadata"].pop("ownerReferences"))
    assert decided(fn, service=service).writes == []


def test_label_does_not_make_a_child_ours_where_an_owner_reference_could() -> None:
    fn = gen.lambda_function()
    forged = gen.job(fn, lambda raw: raw["metadata"].pop("ownerReferences"))
    assert decided(fn, jobs=(forged,)).says(BUILD) == (Status.FALSE, Reason.NOT_OWNED)


def test_service_of_the_functions_former_life_is_waited_for() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built())
    found = decided(fn, service=gen.service(fn, gen.predecessor()))
    assert found.writes == []
    assert found.says(READY) == (Status.UNKNOWN, Reason.DEPLOYING)


def test_service_that_is_being_deleted_is_waited_for() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built())
    assert decided(fn, service=gen.service(fn, gen.going())).writes == []


def test_failing_service_says_what_knative_says() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built())
    found = decided(fn, service=gen.service(fn, gen.service_failed()))
    assert found.says(READY) == (Status.FALSE, Reason.SERVICE_FAILED)
    assert "RevisionFailed: image cannot be pulled" in found.rows[READY.value].message


def _edit(raw: gen.Raw) -> None:
    raw["spec"]["template"]["spec"]["containers"][0]["image"] = "evil.example/x:1"


def _default(raw: gen.Raw) -> None:
    raw["spec"]["template"]["spec"]["containerConcurrency"] = 0
    raw["spec"]["traffic"] = [{"latestRevision": True, "percent": 100}]
    raw["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] = "65536Ki"


def test_hand_edit_of_a_field_of_ours_is_repaired() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built())
    assert decided(fn, service=gen.service(fn, gen.service_ready(), _edit)).writes == ["apply Service"]


def test_what_the_server_defaults_is_never_fought_over() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built())
    assert decided(fn, service=gen.service(fn, gen.service_ready(), _default)).writes == []


def test_what_the_server_makes_of_our_manifest_is_settled_until_somebody_changes_it() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built())
    normalised = gen.service(fn, gen.service_ready(), _edit)
    settled = Settled()
    settled.remember(normalised, gen.service_manifest(fn))
    assert decided(fn, service=normalised, settled=settled).writes == []

    def _again(raw: gen.Raw) -> None:
        raw["spec"]["template"]["spec"]["containers"][0]["image"] = "evil.example/x:2"

    assert decided(fn, service=gen.service(fn, gen.service_ready(), _again), settled=settled).writes == [
        "apply Service"
    ]


# ---- Triggers and Brokers ----


def _event_driven(*parts: gen.Part) -> LambdaFunction:
    return gen.lambda_function(
        "hello", gen.with_trigger("default", type="order.placed"), gen.held(), gen.built(), *parts
    )


def test_function_without_triggers_needs_no_broker() -> None:
    found = decided(gen.lambda_function())
    assert found.says(ConditionType.BROKER_READY) == (Status.TRUE, Reason.NO_TRIGGERS)
    assert found.says(ConditionType.TRIGGERS_READY) == (Status.TRUE, Reason.NO_TRIGGERS)


def test_broker_is_looked_for_while_the_build_runs() -> None:
    fn = gen.lambda_function("hello", gen.with_trigger("default", type="order.placed"))
    found = decided(fn)
    assert found.writes == ["create Job"]
    assert found.says(ConditionType.BROKER_READY) == (Status.FALSE, Reason.BROKER_NOT_READY)
    assert "there is no Broker tenant-1/default" in found.rows[ConditionType.BROKER_READY.value].message
    assert found.says(ConditionType.TRIGGERS_READY) == (Status.UNKNOWN, Reason.WAITING_FOR_BUILD)


def test_trigger_is_written_with_the_service() -> None:
    found = decided(_event_driven(), brokers=gen.broker())
    assert found.writes == ["apply Service", "apply Trigger"]


def test_ready_needs_broker_and_triggers() -> None:
    fn = _event_driven()
    service = gen.service(fn, gen.service_ready())
    waiting = decided(fn, service=service, brokers=gen.broker(), triggers=(gen.trigger_seen(fn),))
    assert waiting.says(READY) == (Status.UNKNOWN, Reason.TRIGGERS_NOT_READY)
    trigger = gen.trigger_seen(fn, gen.ready())
    broken = decided(fn, service=service, brokers=gen.broker(is_ready=False), triggers=(trigger,))
    assert broken.says(READY) == (Status.UNKNOWN, Reason.BROKER_NOT_READY)
    ready = decided(fn, service=service, brokers=gen.broker(), triggers=(trigger,))
    assert ready.says(READY) == (Status.TRUE, Reason.READY)
    assert ready.writes == []


def test_changed_filter_makes_a_new_trigger_and_orphans_the_old_one() -> None:
    old = gen.trigger_seen(_event_driven())
    fn = gen.lambda_function("hello", gen.with_trigger("default", type="order.paid"), gen.held(), gen.built())
    found = decided(fn, service=gen.service(fn), brokers=gen.broker(), triggers=(old,))
    assert found.writes == ["apply Trigger", f"delete Trigger {old.key.name}"]


def test_trigger_of_a_stranger_is_left_alone() -> None:
    fn = _event_driven()
    foreign = gen.trigger_seen(fn, gen.stranger())
    found = decided(fn, service=gen.service(fn, gen.service_ready()), brokers=gen.broker(), triggers=(foreign,))
    assert found.writes == []
    assert found.says(ConditionType.TRIGGERS_READY) == (Status.FALSE, Reason.NOT_OWNED)
    assert found.says(READY) == (Status.FALSE, Reason.NOT_OWNED)


# ---- deletion ----


def test_deleted_function_only_lets_go() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.built(), gen.deleted())
    found = decided(fn, service=gen.service(fn), jobs=(gen.job(fn),))
    assert found.writes == []
    assert found.plan.release
    assert found.status.phase is Phase.DELETING


def test_builds_in_another_namespace_are_deleted_with_the_function() -> None:
    fn = gen.lambda_function("hello", gen.held(), gen.deleted())
    far = _far_job(fn)
    found = decided(fn, jobs=(far,))
    assert found.writes == [f"delete Job {far.key.name}"]
    foreign = replace(far, function_uid="another")
    assert decided(fn, jobs=(foreign,)).writes == []


def test_job_in_another_namespace_waits_for_the_finalizer() -> None:
    fn = gen.lambda_function()
    settings = replace(gen.SETTINGS, build=replace(gen.SETTINGS.build, namespace="builds"))
    found = Decided(gen.snapshot(fn), settings)
    assert found.writes == ["hold", "create Job"]
    job = found.plan.writes[1]
    assert isinstance(job, Create)
    assert job.manifest["metadata"]["namespace"] == "builds"
    assert "ownerReferences" not in job.manifest["metadata"]


def _far_job(fn: LambdaFunction) -> observed.JobSeen:
    settings = replace(gen.SETTINGS, build=replace(gen.SETTINGS.build, namespace="builds"))
    raw = gen.job_manifest(fn, settings)
    raw["metadata"]["uid"] = "far"
    return observed.project_job(raw)


def test_unreadable_function_can_be_deleted() -> None:
    metadata = gen.lambda_function("hello", gen.held(), gen.deleted()).metadata
    found = Decided(Unreadable(metadata=metadata, status=FunctionStatus(), problem="x", now=gen.NOW))
    assert found.plan.release


def test_decide_is_pure() -> None:
    seen: Snapshot = gen.snapshot(_event_driven(), brokers=gen.broker())
    assert decide(seen, gen.SETTINGS).writes == decide(seen, gen.SETTINGS).writes
