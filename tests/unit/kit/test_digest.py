"""Digests name the same thing by the same name, always."""

from __future__ import annotations

import subprocess
import sys

from knative_lambda.kit import digest


def test_the_order_of_keys_does_not_count() -> None:
    assert digest.digest({"a": 1, "b": 2}) == digest.digest({"b": 2, "a": 1})


def test_borders_order_and_types_of_parts_count() -> None:
    values = [("ab", "c"), ("a", "bc"), ("c", "ab"), ("abc",), (["ab", "c"],), ("1",), (1,), (None,), ("",), ()]
    assert len({digest.digest(*parts) for parts in values}) == len(values)


def test_a_digest_is_the_one_of_every_process_and_release() -> None:
    assert (
        digest.digest("build", {"b": 1, "a": "ä"}) == "128ada63d61c7d9a5bbd3cf16bba7c26f2458e89698b0aceaf94f985c511a656"
    )
    code = "from knative_lambda.kit import digest; print(digest.digest('build', {'a': 'ä', 'b': 1}))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == digest.digest("build", {"b": 1, "a": "ä"})


def test_a_short_digest_is_the_beginning_of_the_long_one() -> None:
    assert digest.short("a", "b") == digest.digest("a", "b")[:10]
    assert digest.short("a", "b", length=32) == digest.digest("a", "b")[:32]


def test_canonical_json_has_sorted_keys_and_no_spaces() -> None:
    assert (
        digest.canonical({"b": [1, None], "a": {"d": True, "c": "ä"}})
        == '{"a":{"c":"ä","d":true},"b":[1,null]}'.encode()
    )
