"""A function as `kn-lambda describe` shows it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml
from pydantic import ValidationError

from knative_lambda.api import function
from knative_lambda.api.function import FunctionSpec, Source, SourceType
from knative_lambda.cli import seen
from knative_lambda.cli.seen import Row
from knative_lambda.cluster.base import Object
from knative_lambda.resources import names

ERROR_LINES = 15
"""Of a failed build's log, from its end."""


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of one function."""

    row: Row
    spec: dict[str, Any]
    parsed: FunctionSpec | None
    """None when a later release wrote it."""
    status: dict[str, Any]
    repository: str
    """NAMESPACE/NAME of the FunctionRepository that owns it, or nothing."""
    deleting: bool

    @property
    def conditions(self) -> list[dict[str, Any]]:
        return list(self.status.get("conditions") or ())

    @property
    def triggers(self) -> list[dict[str, Any]]:
        return list(self.spec.get("triggers") or ())

    @property
    def dead_letter_queue(self) -> str:
        """Where events go that it does not take; nothing without triggers."""
        return names.dead_letter_queue(self.row.key) if self.triggers else ""

    @property
    def build(self) -> dict[str, Any]:
        return self.status.get("buildStatus") or {}

    def told(self) -> dict[str, Any]:
        """For programs."""
        return {
            **self.row.told(),
            "deleting": self.deleting,
            "repository": self.repository or None,
            "spec": self.spec,
            "conditions": self.conditions,
            "build": self.build or None,
            "service": self.status.get("serviceStatus"),
            "triggers": self.triggers,
            "dead_letter_queue": self.dead_letter_queue or None,
        }

    def pairs(self, *, now: datetime) -> list[tuple[str, str]]:
        """Name and value of each line, for people; a value may have several lines."""
        row = self.row
        state = row.phase + (", is being deleted" if self.deleting else "")
        created = f"{row.created} ({seen.age(row.created, now=now)} ago)" if row.created else ""
        pairs = [
            ("Function", str(row.key)),
            ("Ready", row.ready),
            ("Phase", state.removeprefix(", ")),
            ("URL", row.url),
            ("Image", row.image),
            ("Revision", row.revision),
            ("Serving", self._serving()),
            ("Git owns it", self.repository and f"repository {self.repository}"),
            *self._asked_for(),
            ("Build", self._build()),
            ("Triggers", "\n".join(_trigger(one) for one in self.triggers)),
            ("Dead letters", self.dead_letter_queue and f"{self.dead_letter_queue} (kn-lambda dlq show {row.key})"),
            ("Created", created),
        ]
        return [(name, value) for name, value in pairs if value]

    def _serving(self) -> str:
        service = self.status.get("serviceStatus") or {}
        replicas = service.get("replicas")
        shown = [service.get("revision", ""), "" if replicas is None else f"{replicas} replicas"]
        return ", ".join(filter(None, shown))

    def _asked_for(self) -> list[tuple[str, str]]:
        if self.parsed is None:
            spec: str = yaml.safe_dump(self.spec, sort_keys=False, allow_unicode=True, width=120)
            return [("Spec", spec.rstrip())]
        return _of_spec(self.parsed)

    def _build(self) -> str:
        build = self.build
        if not build.get("jobName"):
            return ""
        took = _took(build.get("startedAt"), build.get("completedAt"))
        head = f"Job {build['jobName']}{took}"
        error = "\n".join(str(build.get("error") or "").strip().splitlines()[-ERROR_LINES:])
        return f"{head}, failed:\n{error}" if error else head


def describe(fn: Object) -> Description:
    """From an object of the API server."""
    spec = fn.get("spec") or {}
    owner = seen.repository(fn)
    try:
        parsed = function.FunctionSpec.model_validate(spec)
    except ValidationError:
        parsed = None
    return Description(
        row=seen.row(fn),
        spec=spec,
        parsed=parsed,
        status=fn.get("status") or {},
        repository=str(owner) if owner else "",
        deleting=bool(fn["metadata"].get("deletionTimestamp")),
    )


def _of_spec(spec: FunctionSpec) -> list[tuple[str, str]]:
    scaling, wanted = spec.scaling, spec.resources
    pairs = [("Source", _source(spec.source))]
    if spec.runtime is not None:
        handler = ".".join(spec.runtime.entrypoint())
        pairs.append(("Runtime", f"{spec.runtime.language} {spec.runtime.release()}, handler {handler}"))
    return [
        *pairs,
        (
            "Scaling",
            f"{scaling.min_replicas} to {scaling.max_replicas} replicas, {scaling.target_concurrency} requests at once"
            f" each, to zero after {scaling.scale_to_zero_grace_period}",
        ),
        ("Memory", f"{wanted.requests.memory} asked, {wanted.limits.memory} at most"),
        ("CPU", f"{wanted.requests.cpu} asked, {wanted.limits.cpu} at most"),
        ("Environment", ", ".join(one.name for one in spec.env)),
    ]


def _source(source: Source) -> str:
    """Kind and place; code of an inline source is not repeated."""
    if source.type is SourceType.INLINE and source.inline is not None:
        return f"inline, {len(source.inline.code.splitlines())} lines"
    given = source.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    details = given.get(source.type.value) or {}
    flat = ", ".join(f"{name} {_flat(value)}" for name, value in details.items() if value)
    return f"{source.type.value}: {flat}" if flat else source.type.value


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values())
    return str(value)


def _trigger(one: dict[str, Any]) -> str:
    wanted = one.get("filter") or {}
    exact = {
        **(wanted.get("attributes") or {}),
        **{name: wanted[name] for name in ("type", "source") if name in wanted},
    }
    filters = " ".join(f"{name}={value}" for name, value in sorted(exact.items())) or "every event"
    return f"broker {one.get('broker', '')}: {filters}"


def _took(started: str | None, ended: str | None) -> str:
    if not started:
        return ""
    if not ended:
        return f", runs since {started}"
    seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    return f", took {seconds:.0f} s"
