"""What must be written so that the cluster holds a revision. Pure; called by loop.

Costs a few milliseconds for a thousand functions, because what was built or compared before is passed in again: a
desired function is rebuilt only when its file, the repository or its pin changed, and compared only when that or the
object's resourceVersion changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from knative_lambda.api import meta
from knative_lambda.api.meta import Key
from knative_lambda.api.repository import Finding, InventoryItem
from knative_lambda.gitsync import desired as manifests
from knative_lambda.gitsync import validation
from knative_lambda.gitsync.desired import Desired, Frame
from knative_lambda.gitsync.discovery import Discovered
from knative_lambda.gitsync.observed import version
from knative_lambda.gitsync.owned import owned_fields_match
from knative_lambda.resources.observed import FunctionSeen

GUARD_COUNT = 10
"""Pruning more than this many and more than half of all at once needs a person's word."""
TRUST_SECONDS = 30.0
"""How long a write of ours that the cache does not show is believed in."""
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit, the functions that it declares, and the repository that they belong to."""

    frame: Frame
    commit: str
    discovered: Discovered


@dataclass(frozen=True, slots=True)
class Written:
    """A write of ours that the cache may not show yet."""

    uid: str
    resource_version: str
    digest: str
    at: float
    """Monotonic time of the write."""

    def is_unseen(self, seen: FunctionSeen | None, now: float) -> bool:
        """Whether the cache has yet to show it; after a while it is taken for gone."""
        return now - self.at < TRUST_SECONDS and self.is_ahead_of(seen)

    def is_ahead_of(self, seen: FunctionSeen | None) -> bool:
        """Whether the cache is older than the write."""
        if seen is None:
            return True
        return seen.uid == self.uid and version(seen.resource_version) < version(self.resource_version)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the last comparison found out. Losing it costs time, nothing else."""

    desired: Mapping[Key, Desired] = field(default_factory=dict)
    settled: Mapping[Key, tuple[str, str, str]] = field(default_factory=dict)
    """(uid, resourceVersion, digest of the desired manifest) of functions that were as desired."""


@dataclass(frozen=True, slots=True)
class ClusterSeen:
    """Everything in the caches that bears on one repository."""

    ours: Mapping[Key, FunctionSeen]
    """By label; they may lie in any namespace."""
    others: Mapping[Key, FunctionSeen]
    """Functions of somebody else that have a declared name."""
    inventory: tuple[InventoryItem, ...] = ()
    written: Mapping[Key, Written] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PrunePolicy:
    """What a person said about deleting."""

    prune: bool = True
    allowed: str = ""
    """The revision for which the mass-delete guard is lifted: a commit, or ref@commit."""


@dataclass(frozen=True, slots=True)
class Write:
    """One function to apply. The first write of an object must not take it from somebody else."""

    desired: Desired
    first: bool


@dataclass(frozen=True, slots=True)
class Removal:
    """One function to delete."""

    item: InventoryItem
    uid: str


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference between a revision and the cluster."""

    apply: tuple[Write, ...] = ()
    delete: tuple[Removal, ...] = ()
    findings: tuple[Finding, ...] = ()
    """Functions that are not ours to write."""
    unchanged: int = 0
    unconfirmed: int = 0
    """Written a moment ago; the cache does not show it yet."""
    going: tuple[Key, ...] = ()
    """Declared, but the object of that name is still being deleted."""
    guarded: str = ""
    """Why nothing is deleted, for a person; empty when the guard has nothing to say."""
    inventory: tuple[InventoryItem, ...] = ()
    """As it will be when everything in `apply` and `delete` is done."""
    memory: Memory = field(default_factory=Memory, repr=False)


def decide(revision: Revision, cluster: ClusterSeen, policy: PrunePolicy, memory: Memory) -> Changes:
    """Compares a revision with the caches."""
    before = {item.key: item for item in cluster.inventory}
    wanted = {one.key: one for one in _wanted(revision, cluster, before, memory)}
    verdicts = _compare(wanted, cluster, memory)
    leaving = _leaving(revision.discovered, before, wanted)
    unseen = {key for key, written in cluster.written.items() if written.is_ahead_of(cluster.ours.get(key))}
    guarded = _guard(revision, leaving, len(before), policy)
    kept_back = bool(guarded) or not policy.prune
    removals = () if kept_back else tuple(_removals(leaving, cluster))
    staying = [
        item
        for item in before.values()
        if item.key not in wanted and (kept_back or item not in leaving or item.key in unseen)
    ]
    mine = [one for one in wanted.values() if one.key not in verdicts.foreign]
    return Changes(
        apply=tuple(verdicts.apply),
        delete=removals,
        findings=tuple(_foreign_finding(wanted[key]) for key in verdicts.foreign),
        unchanged=len(verdicts.settled),
        unconfirmed=verdicts.unconfirmed,
        going=tuple(verdicts.going),
        guarded=guarded,
        inventory=_inventory(mine, staying, before),
        memory=Memory(desired=wanted, settled=verdicts.settled),
    )


# What is wanted.


def _wanted(
    revision: Revision, cluster: ClusterSeen, before: Mapping[Key, InventoryItem], memory: Memory
) -> Iterable[Desired]:
    for declared in revision.discovered.functions:
        key = Key(revision.frame.namespace, declared.name)
        last = memory.desired.get(key)
        if last is not None and last.declared is declared and last.frame == revision.frame:
            yield last
            continue
        tree = revision.frame.tree(declared)
        remembered = last.commit if last is not None and last.tree == tree else ""
        commit = remembered or _pin(tree, before.get(key), cluster.ours.get(key)) or revision.commit
        yield manifests.build(declared, revision.frame, tree=tree, commit=commit)


def _pin(tree: str, item: InventoryItem | None, seen: FunctionSeen | None) -> str:
    """The commit at which this very content was applied; empty when it is new.

    The object itself answers when the inventory does not know: a process that died between the two writes left a
    right object and an old inventory.
    """
    if item is not None and item.tree == tree:
        return item.commit
    if seen is None:
        return ""
    annotations = seen.load()["metadata"].get("annotations", {})
    commit: str = annotations.get(meta.ANNOTATION_REVISION, "")
    return commit if annotations.get(meta.ANNOTATION_TREE) == tree and _COMMIT.fullmatch(commit) else ""


# What differs.


@dataclass(slots=True)
class _Verdicts:
    apply: list[Write] = field(default_factory=list)
    foreign: list[Key] = field(default_factory=list)
    going: list[Key] = field(default_factory=list)
    settled: dict[Key, tuple[str, str, str]] = field(default_factory=dict)
    unconfirmed: int = 0


def _compare(wanted: Mapping[Key, Desired], cluster: ClusterSeen, memory: Memory) -> _Verdicts:
    found = _Verdicts()
    for key, one in wanted.items():
        seen = cluster.ours.get(key)
        if seen is None and key in cluster.others:
            found.foreign.append(key)
        elif seen is not None and seen.deleting:
            found.going.append(key)
        elif _is_written(cluster.written.get(key), one, seen):
            found.unconfirmed += 1
        elif seen is not None and (proof := _settled(one, seen, memory)):
            found.settled[key] = proof
        else:
            found.apply.append(Write(one, first=seen is None))
    return found


def _is_written(written: Written | None, one: Desired, seen: FunctionSeen | None) -> bool:
    return written is not None and written.digest == one.digest and written.is_ahead_of(seen)


def _settled(one: Desired, seen: FunctionSeen, memory: Memory) -> tuple[str, str, str] | None:
    proof = (seen.uid, seen.resource_version, one.digest)
    if memory.settled.get(one.key) == proof or owned_fields_match(one.manifest, seen.load()):
        return proof
    return None


def _foreign_finding(one: Desired) -> Finding:
    words = (
        f"a LambdaFunction {one.key} exists that this repository does not own; it is left alone."
        f" Rename yours, delete it, or hand it over with the labels {meta.LABEL_REPOSITORY}={one.frame.repository.name}"
        f" and {meta.LABEL_REPOSITORY_NAMESPACE}={one.frame.repository.namespace}"
    )
    return validation.finding(one.declared.file, words, line=one.declared.line, function=one.declared.name)


# What goes.


def _leaving(
    discovered: Discovered, before: Mapping[Key, InventoryItem], wanted: Mapping[Key, Desired]
) -> dict[InventoryItem, None]:
    """Inventory that the revision no longer declares; a declaration with findings still declares."""
    return {
        item: None
        for key, item in before.items()
        if key not in wanted and item.path not in discovered.held_paths and item.name not in discovered.held_names
    }


def _guard(revision: Revision, leaving: Mapping[InventoryItem, None], total: int, policy: PrunePolicy) -> str:
    if not leaving or not policy.prune or _is_allowed(revision, policy.allowed):
        return ""
    is_empty = not revision.discovered.functions and len(leaving) == total
    if not is_empty and not (len(leaving) > GUARD_COUNT and len(leaving) * 2 > total):
        return ""
    what = "declares no functions at all" if is_empty else f"no longer declares {len(leaving)} of {total} functions"
    return (
        f"commit {revision.commit} {what}; nothing is deleted. If that is meant, set the annotation"
        f" {meta.ANNOTATION_ALLOW_PRUNE}={revision.commit} on this FunctionRepository"
    )


def _is_allowed(revision: Revision, allowed: str) -> bool:
    return bool(allowed) and allowed.rpartition("@")[2] == revision.commit


def _removals(leaving: Iterable[InventoryItem], cluster: ClusterSeen) -> Iterable[Removal]:
    """Deletions still to be asked for: not of what is gone, is going, or is no longer ours."""
    for item in leaving:
        seen = cluster.ours.get(item.key)
        if seen is not None and not seen.deleting:
            yield Removal(item, seen.uid)


def _inventory(
    mine: Iterable[Desired], staying: Iterable[InventoryItem], before: Mapping[Key, InventoryItem]
) -> tuple[InventoryItem, ...]:
    items = [_item(one, before.get(one.key)) for one in mine]
    return tuple(sorted([*items, *staying], key=lambda item: item.key))


def _item(one: Desired, before: InventoryItem | None) -> InventoryItem:
    path = one.declared.path
    if before is not None and (before.tree, before.commit, before.path) == (one.tree, one.commit, path):
        return before
    return InventoryItem(namespace=one.key.namespace, name=one.key.name, path=path, tree=one.tree, commit=one.commit)
