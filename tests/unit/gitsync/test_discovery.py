"""What a tree declares, and what is wrong with it."""
# ruff: noqa: E501 - a case of a table is one line

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knative_lambda.api import meta
from knative_lambda.api.conditions import Reason
from knative_lambda.gitsync import discovery
from knative_lambda.gitsync.discovery import Discovered, Limits, discover
from knative_lambda.gitsync.memory import Files, Link, MemoryTree
from knative_lambda.gitsync.tree import DirectoryTree, Tree
from knative_lambda.sources.base import SourceError
from tests.unit.gitsync.stage import function_files, function_yaml

MANIFEST = f"""\
apiVersion: {meta.API_VERSION}
kind: LambdaFunction
metadata:
  name: {{name}}
spec:
  runtime: {{{{language: python}}}}
  source:
    type: inline
    inline: {{{{code: "def handler(event): ..."}}}}
"""


def found(files: Files, **options: object) -> Discovered:
    return discover(MemoryTree(files), **options)  # type: ignore[arg-type]


def one_function(text: str, **more: str | Link) -> Discovered:
    """A tree with the function f whose function.yaml is `text`; `more` are further files beside it."""
    files: dict[str, str | Link] = {"f/function.yaml": text, "f/main.py": ""}
    return found({**files, **{f"f/{name.replace('__', '.')}": content for name, content in more.items()}})


def test_a_directory_with_a_function_file_is_a_function() -> None:
    seen = found(function_files("hello"))
    (fn,) = seen.functions
    assert (fn.name, fn.path, fn.beside) == ("hello", "functions/hello", True)
    assert seen.findings == ()


def test_the_whole_form_names_itself() -> None:
    text = f"apiVersion: {meta.API_VERSION}\nkind: LambdaFunction\nmetadata: {{name: other, labels: {{a: b}}}}\n"
    (fn,) = one_function(text + function_yaml()).functions
    assert (fn.name, fn.labels, fn.line) == ("other", {"a": "b"}, 3)


def test_manifests_in_one_file_are_functions_and_other_kinds_are_passed_over() -> None:
    text = "---\n".join([MANIFEST.format(name="a"), "kind: Service\napiVersion: v1\n", MANIFEST.format(name="b")])
    seen = found({"all.yml": text, "other.yaml": "kind: {{ template }}", "x.txt": MANIFEST.format(name="no")})
    assert [(fn.name, fn.beside) for fn in seen.functions] == [("a", False), ("b", False)]
    assert seen.findings == ()


def test_a_function_repository_in_the_tree_is_passed_over() -> None:
    text = f"apiVersion: {meta.API_VERSION}\nkind: FunctionRepository\nmetadata: {{name: LambdaFunction}}\n"
    assert found({"repo.yaml": text}) == Discovered(known=found({"repo.yaml": text}).known)


def test_only_what_lies_below_the_path_counts() -> None:
    files = {
        **function_files("hello"),
        "attic/old/function.yaml": "broken: [",
        "functionsandmore/x.yaml": "kind: LambdaFunction\n[",
    }
    seen = found(files, path="functions")
    assert [fn.name for fn in seen.functions] == ["hello"]
    assert seen.findings == ()


def test_hidden_directories_and_node_modules_are_passed_over() -> None:
    files = {".github/f/function.yaml": "[", "a/node_modules/x/function.yaml": "[", **function_files("hello")}
    assert [fn.name for fn in found(files).functions] == ["hello"]
    assert found(files).findings == ()


@pytest.mark.parametrize(
    ("text", "line", "pointer", "words"),
    [
        ("spec: [\n", 2, "", "invalid YAML"),
        ("spec: {}\nspec: {}\n", 2, "", "the key 'spec' is there twice, first in line 1"),
        ("", None, "", "the file is empty"),
        ("a: 1\n---\nb: 2\n", None, "", "holds 2 documents"),
        ("- a\n", 1, "", "must be an object, not a list"),
        ("metadata: {name: x}\n", 1, "", "the field spec is missing"),
        ("spec:\n  runtime:\n    language: 3\n", 3, "/spec/runtime/language", "must be text|unknown runtime 3"),
        ("spec:\n  runtime: {language: python}\n  scaling:\n    minReplicas: many\n", 4, "/spec/scaling/minReplicas", "must be an integer, not 'many'"),
        ("spec:\n  runtime: {language: python}\n  scalling: {}\n", 3, "/spec/scalling", "unknown field scalling; did you mean scaling"),
        ("spec:\n  runtime: {language: pyhton}\n", 2, "/spec/runtime/language", "unknown runtime 'pyhton'; did you mean python"),
        ("spec:\n  runtime: {language: ruby}\n", 2, "/spec/runtime/language", "unknown runtime 'ruby'; known: nodejs, python, go"),
        ("spec:\n  runtime: {language: python, handler: app.run}\n", 2, "/spec/runtime/handler", "app.run needs a file app.py or app/__init__.py"),
        ("spec:\n  runtime: {language: nodejs}\n", 2, "/spec/runtime/handler", "index.js or index.mjs"),
        ("spec:\n  runtime: {language: go}\n", 2, "/spec/runtime/handler", r"\*.go"),
        (f"metadata:\n  name: {'n' * 53}\n{function_yaml()}", 2, "/metadata/name", "53 characters; at most 52"),
        (f"metadata:\n  name: Hello_World\n{function_yaml()}", 2, "/metadata/name", "does not have the form"),
        (f"metadata:\n  namespace: theirs\n{function_yaml()}", 2, "/metadata/namespace", "'theirs', but this repository writes to 'mine'"),
        (function_yaml("  build:\n    watchPaths:\n    - ../../etc\n"), 6, "/spec/build/watchPaths/0", "without '..'"),
        (function_yaml("  build:\n    watchPaths:\n    - shraed\n"), 6, "/spec/build/watchPaths/0", "no 'shraed'"),
        (function_yaml("  build: {timeout: 1s}\n"), 4, "/spec/build/timeout", "between 10s and 6h"),
        (function_yaml("  env:\n  - {name: A}\n  - {name: A}\n"), 1, "/spec", "twice: A"),
        (function_yaml("  source:\n    type: git\n    git: {url: 'ext::sh -c x'}\n"), 6, "/spec/source/git/url", "does not have the form"),
        (function_yaml("  source:\n    type: git\n    git: {url: '-x'}\n"), 6, "/spec/source/git/url", "does not have the form"),
        (function_yaml("  source:\n    type: git\n    git: {url: 'https://h/x', path: ../y}\n"), 6, "/spec/source/git/path", "without '..'"),
        (function_yaml("  source:\n    type: inline\n"), 4, "/spec/source", "the field inline is missing"),
        (function_yaml("  source:\n    type: minio\n    minio: {bucket: abc, key: k, accessKey: x}\n"), 6, "/spec/source/minio", "Secret"),
        ("kind: Deployment\n" + function_yaml(), 1, "/kind", "must be 'LambdaFunction', not 'Deployment'"),
    ],
)  # fmt: skip
def test_a_finding_says_file_line_pointer_and_what_to_do(text: str, line: int | None, pointer: str, words: str) -> None:
    files = {"f/function.yaml": text, "f/main.py": ""}
    seen = discover(MemoryTree(files), namespace="mine")
    assert seen.functions == ()
    assert "f" in seen.held_paths
    finding = seen.findings[0]
    assert (finding.file, finding.line, finding.pointer) == ("f/function.yaml", line, pointer)
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(finding.message)


def test_all_errors_of_a_file_are_told_at_once() -> None:
    text = "spec:\n  runtime: {language: ruby}\n  a: 1\n  scaling: {maxReplicas: x}\n"
    assert [one.line for one in one_function(text).findings] == [2, 3, 4]


def test_a_directory_name_that_is_no_name_is_told() -> None:
    for name in ("Hello", "n" * 53, "1st", "with_underscore"):
        (finding,) = found({f"{name}/function.yaml": function_yaml(), f"{name}/main.py": ""}).findings
        assert "metadata.name is missing" in finding.message
        named = f"metadata: {{name: fine}}\n{function_yaml()}"
        assert found({f"{name}/function.yaml": named, f"{name}/main.py": ""}).findings == ()


def test_a_function_file_in_the_root_needs_a_name() -> None:
    (finding,) = found({"function.yaml": function_yaml(), "main.py": ""}).findings
    assert "no directory" in finding.message


def test_two_directories_with_one_name_are_both_told_and_neither_is_taken() -> None:
    files = {f"{place}/{path}": text for place in ("a", "b") for path, text in function_files("same").items()}
    seen = found({**files, **function_files("other")})
    assert [fn.name for fn in seen.functions] == ["other"]
    assert [one.file for one in seen.findings] == ["a/functions/same/function.yaml", "b/functions/same/function.yaml"]
    assert "b/functions/same/function.yaml" in seen.findings[0].message
    assert "same" in seen.held_names


@pytest.mark.parametrize(
    ("target", "inside"),
    [
        ("main.py", True),
        ("./lib/../main.py", True),
        ("../g/main.py", False),
        ("../../etc/passwd", False),
        ("/etc/passwd", False),
        ("..", False),
    ],
)
def test_a_link_must_stay_in_its_directory(target: str, inside: bool) -> None:
    seen = found({**function_files("f", "g"), "functions/f/link": Link(target)})
    assert [fn.name for fn in seen.functions] == (["f", "g"] if inside else ["g"])
    assert [one.message for one in seen.findings] == (
        [] if inside else [f"the symbolic link functions/f/link leads out of the function's directory: {target}"]
    )


def test_a_function_file_that_is_a_link_is_not_followed() -> None:
    seen = found({"f/function.yaml": Link("/etc/passwd"), "f/main.py": "", "x.yaml": Link("/etc/shadow")})
    assert [one.message for one in seen.findings] == ["a symbolic link is not followed; put a file here"]


@pytest.mark.parametrize(
    ("runtime", "file"),
    [
        ("language: python, handler: handle", "main.py"),
        ("language: python, handler: pkg.mod.run", "pkg/mod.py"),
        ("language: python, handler: pkg.run", "pkg/__init__.py"),
        ("language: nodejs", "index.mjs"),
        ("language: nodejs, handler: src/app.run", "src/app.ts"),
        ("language: go", "anything.go"),
        ("language: go, handler: orders/intake.Take", "orders/intake/anything.go"),
        ("language: go, handler: orders.Take", "orders/anything.go"),
    ],
)
def test_the_handler_file_is_found_by_the_rules_of_its_language(runtime: str, file: str) -> None:
    text = f"spec:\n  runtime: {{{runtime}}}\n"
    assert [fn.name for fn in found({"f/function.yaml": text, f"f/{file}": ""}).functions] == ["f"]
    assert found({"f/function.yaml": text, "f/other.txt": ""}).functions == ()


def test_a_function_with_another_source_needs_no_code_beside_it() -> None:
    text = "spec:\n  source: {type: image, image: {uri: ghcr.io/me/hello@sha256:0}}\n"
    (fn,) = found({"f/function.yaml": text}).functions
    assert not fn.beside


def tree_of(files: Files) -> str:
    (fn,) = found(files).functions
    return fn.tree


def test_the_tree_digest_follows_the_code_and_not_the_settings() -> None:
    files = function_files("f")
    assert tree_of(files) == tree_of(
        {**files, "functions/f/function.yaml": function_yaml("  scaling: {minReplicas: 1}\n")}
    )
    assert tree_of(files) != tree_of({**files, "functions/f/main.py": "changed"})
    assert tree_of(files) != tree_of({**files, "functions/f/sub/new.txt": ""})
    assert tree_of(files) == tree_of({**files, "functions/README.md": "beside"})


def test_with_another_source_the_tree_digest_follows_the_function_file_alone() -> None:
    text = "spec:\n  source: {type: image, image: {uri: 'ghcr.io/me/hello:1'}}\n"
    assert tree_of({"f/function.yaml": text}) == tree_of({"f/function.yaml": text, "f/notes.txt": "x"})
    assert tree_of({"f/function.yaml": text}) != tree_of({"f/function.yaml": text.replace(":1", ":2")})


def test_a_path_that_is_not_there_ends_the_look() -> None:
    with pytest.raises(SourceError, match="no directory 'gone'") as caught:
        found(function_files("f"), path="gone")
    assert caught.value.reason is Reason.SOURCE_NOT_FOUND


class CountingTree:
    """A tree that remembers what was read."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.reads: list[str] = []
        self.entries, self.subtree_id = tree.entries, tree.subtree_id

    def read(self, path: str, limit: int) -> bytes:
        self.reads.append(path)
        return self.tree.read(path, limit)


def test_only_what_changed_is_read_again() -> None:
    files = {**function_files("a", "b", extra="  build: {watchPaths: [shared]}\n"), "shared/x": "1", "m.yaml": "a: 1\n"}
    before = found(files)
    again = CountingTree(MemoryTree(files))
    assert discover(again, known=before.known) == before
    assert again.reads == []
    changed = CountingTree(MemoryTree({**files, "functions/a/main.py": "new"}))
    after = discover(changed, known=before.known)
    assert changed.reads == ["functions/a/function.yaml"]
    assert after.functions[1] is before.functions[1]
    shared = CountingTree(MemoryTree({**files, "shared/x": "2"}))
    assert len(discover(shared, known=before.known).functions) == 2
    assert shared.reads == ["functions/a/function.yaml", "functions/b/function.yaml"]


def test_numbers_are_bounded() -> None:
    files = function_files("a", "b", "c")
    limited = found(files, limits=Limits(functions=2))
    assert [fn.name for fn in limited.functions] == ["a", "b"]
    assert [one.function for one in limited.findings] == ["c"]
    with pytest.raises(SourceError, match="YAML files"):
        found(files, limits=Limits(files=2))
    with pytest.raises(SourceError, match="more than 0 MiB"):
        found(files, limits=Limits(parsed_bytes=50))
    assert found(files, limits=Limits(parsed_bytes=50), known=found(files).known).functions


def test_many_findings_are_counted_in_the_last_one() -> None:
    seen = found({f"{number}/function.yaml": "[" for number in range(10, 40)}, limits=Limits(findings=5))
    assert len(seen.findings) == 5
    assert seen.findings[-1].message == "and 26 more findings"
    assert len(seen.held_paths) == 30


def test_a_secret_in_a_wrong_place_is_not_repeated_in_a_finding() -> None:
    seen = one_function("spec:\n  runtime: {language: ghp_abcdefghijklmnopqrstuvwx}\n")
    assert "ghp_" not in str(seen.findings[0])


# A directory on disk.


def test_a_directory_on_disk_is_read_like_a_commit(tmp_path: Path) -> None:
    files = function_files("hello")
    for path, text in files.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(text))
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "function.yaml").write_text("[")
    seen = discover(DirectoryTree(tmp_path))
    assert [fn.name for fn in seen.functions] == ["hello"]
    assert seen.findings == ()


def test_a_link_on_disk_is_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "function.yaml").write_text(function_yaml())
    (outside / "main.py").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "f").symlink_to(outside)
    (root / "file.yaml").symlink_to(outside / "function.yaml")
    tree = DirectoryTree(root)
    assert [entry.path for entry in tree.entries()] == ["f", "file.yaml"]
    assert tree.read("f", 1000) == str(outside).encode()
    with pytest.raises(FileNotFoundError):
        tree.read("f/main.py", 10)
    with pytest.raises(FileNotFoundError):
        tree.read("../outside/main.py", 10)
    assert discover(tree).functions == ()


def test_special_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="neither a file"):
        DirectoryTree(tmp_path)


def test_equal_directories_on_disk_have_equal_ids(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "f").write_text("x")
    before = DirectoryTree(tmp_path)
    assert before.subtree_id("a") == before.subtree_id("b") != ""
    (tmp_path / "b" / "sub" / "f").write_text("y")
    after = DirectoryTree(tmp_path)
    assert after.subtree_id("a") == before.subtree_id("a")
    assert after.subtree_id("b") != before.subtree_id("b")
    assert after.subtree_id("nothing") == ""


def test_the_limits_of_the_api_are_the_defaults() -> None:
    assert Limits(functions=5000, findings=200) == discovery.DEFAULT_LIMITS
