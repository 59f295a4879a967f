"""Languages, versions and the files that a build context gets from us."""

from __future__ import annotations

import json
import re

import pytest

from knative_lambda.api.function import DEFAULT_VERSION, Language, Runtime
from knative_lambda.runtimes import catalog, go, nodejs, python

LANGUAGES = tuple(catalog.RUNTIMES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_default_version_of_a_language_can_be_built(language: Language) -> None:
    assert catalog.supported(language, DEFAULT_VERSION[language])


@pytest.mark.parametrize(
    ("language", "version"), [(Language.PYTHON, "2.7"), (Language.PYTHON, "3"), (Language.GO, "1.2")]
)
def test_what_has_no_builder_is_not_supported(language: Language, version: str) -> None:
    assert not catalog.supported(language, version)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_version_has_an_image_of_its_own(language: Language) -> None:
    images = catalog.RUNTIMES[language].images
    assert len(set(images.values())) == len(images)
    assert all(version in image for version, image in images.items())
    assert catalog.versions()[language] == tuple(images)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_handler_is_data_and_never_part_of_the_dockerfile(language: Language) -> None:
    named = Runtime(language=language, handler="evil_module.evil_function")
    plain = catalog.RUNTIMES[language].context_files(Runtime(language=language))
    files = catalog.RUNTIMES[language].context_files(named)
    assert {name for name in files if files[name] != plain[name]} == {"runtime/runtime.json"}
    assert json.loads(files["runtime/runtime.json"])["function"] == "evil_function"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_dockerfile_begins_with_the_image_of_the_version(language: Language) -> None:
    runtime = catalog.RUNTIMES[language]
    for version, image in runtime.images.items():
        text = runtime.context_files(Runtime(language=language, version=version))["Dockerfile"].decode()
        assert text.splitlines()[0] == f"ARG BASE_IMAGE={image}"
        assert "\nFROM ${BASE_IMAGE}\n" in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_image_runs_as_nobody_on_knatives_port(language: Language) -> None:
    text = catalog.RUNTIMES[language].context_files(Runtime(language=language))["Dockerfile"].decode()
    assert "\nUSER 65532:65532\n" in text
    assert "PORT=8080" in text
    assert text.index("\nUSER") > text.rindex("\nRUN")


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_that_the_dockerfile_copies_is_in_the_context(language: Language) -> None:
    runtime = catalog.RUNTIMES[language]
    files = runtime.context_files(Runtime(language=language))
    text = files["Dockerfile"].decode()
    lines = [line for line in text.splitlines() if line.startswith("COPY") and "--from=" not in line]
    copied = [part for line in lines for part in line.split()[1:-1]]
    single = {part for part in copied if not part.endswith("/")}
    assert single <= set(files)
    folders = {part for part in copied if part.endswith("/")}
    assert {folder.partition("/")[0] for folder in folders} == {"runtime", "function", "dependencies"}
    assert all(any(name.startswith(folder) for name in files) for folder in folders if folder.startswith("runtime/"))


def test_lock_files_pin_every_package_by_hash_and_name_no_registry() -> None:
    requirements = python.SHIPPED.read("requirements.txt").decode()
    pinned = [line for line in requirements.splitlines() if "==" in line]
    assert pinned
    assert all(line.endswith("\\") for line in pinned)
    assert "index" not in requirements
    lock = json.loads(nodejs.SHIPPED.read("package-lock.json"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not any("resolved" in package for package in packages.values())


def test_every_go_module_is_pinned_by_hash_and_runs_where_the_oldest_toolchain_does() -> None:
    module, sums = (go.SHIPPED.read(name).decode() for name in ("go.mod", "go.sum"))
    required = re.findall(r"^\t(\S+) (v\S+)", module, re.MULTILINE)
    assert ("github.com/GoogleCloudPlatform/functions-framework-go", "v1.9.2") in required
    assert all(f"{name} {version} h1:" in sums for name, version in required)
    assert "replace" not in module
    oldest = next(iter(catalog.RUNTIMES[Language.GO].images))
    assert _numbers(re.findall(r"^go (\S+)", module, re.MULTILINE)[0]) <= _numbers(oldest)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def test_a_go_program_is_static_and_alone_in_its_image() -> None:
    text = go.SHIPPED.read("Dockerfile").decode()
    assert "CGO_ENABLED=0" in text
    assert "-trimpath" in text
    last = text[text.rindex("\nFROM ") :]
    assert last.startswith("\nFROM scratch\n")
    assert "\nRUN" not in last


def test_go_modules_are_fetched_in_a_layer_of_their_own_before_any_code_is_there() -> None:
    text = go.SHIPPED.read("Dockerfile").decode()
    assert text.index("COPY dependencies/") < text.rindex("go mod download") < text.index("COPY function/")
    assert text.index("COPY runtime/go.mod") < text.index("go mod download") < text.index("COPY runtime/shim.go")
    assert text.index("go build") < text.index("COPY runtime/ ")


def test_the_builders_version_is_the_same_in_every_process() -> None:
    assert catalog.builder_version() == catalog.builder_version.__wrapped__()
    assert len(catalog.builder_version()) == 16


@pytest.mark.parametrize(
    ("files", "images"),
    [
        ({"python": {"Dockerfile": b"b", "shim": b"s"}}, {"python": {"3.13": "python:3.13"}}),
        ({"python": {"Dockerfile": b"a", "shim": b"t"}}, {"python": {"3.13": "python:3.13"}}),
        ({"python": {"Dockerfile": b"a"}}, {"python": {"3.13": "python:3.13"}}),
        ({"python": {"Dockerfile": b"a", "shim": b"s"}}, {"python": {"3.13": "python:3.13-slim"}}),
        ({"python": {"Dockerfile": b"a", "shim": b"s"}}, {"python": {"3.13": "python:3.13", "3.14": "x"}}),
    ],
)
def test_the_builders_version_follows_every_file_and_image(
    files: dict[str, dict[str, bytes]], images: dict[str, dict[str, str]]
) -> None:
    before = catalog.identity({"python": {"Dockerfile": b"a", "shim": b"s"}}, {"python": {"3.13": "python:3.13"}})
    assert catalog.identity(files, images) != before


@pytest.mark.parametrize(
    ("language", "module", "expected"),
    [
        (Language.PYTHON, "main", ("main.py", "main/__init__.py")),
        (Language.PYTHON, "pkg.app", ("pkg/app.py", "pkg/app/__init__.py")),
        (Language.PYTHON, "pkg/app", ("pkg/app.py", "pkg/app/__init__.py")),
        (Language.NODEJS, "src/app", ("src/app.js", "src/app.mjs", "src/app.cjs", "src/app.ts")),
        (Language.GO, "main", ("main.go", "*.go")),
        (Language.GO, "orders/intake", ("orders/intake/main.go", "orders/intake/*.go")),
        (Language.GO, "orders.intake", ("orders/intake/main.go", "orders/intake/*.go")),
    ],
)
def test_handler_files_follow_the_languages_way(language: Language, module: str, expected: tuple[str, ...]) -> None:
    assert tuple(catalog.RUNTIMES[language].handler_files(module)) == expected


def dependencies(language: Language, **files: str) -> dict[str, bytes] | None:
    top = {name.replace("_", ".").replace("--", "-"): text.encode() for name, text in files.items()}
    found = catalog.RUNTIMES[language].dependency_files(top)
    return None if found is None else dict(found)


def test_python_dependencies_are_a_layer_of_their_own() -> None:
    assert dependencies(Language.PYTHON, main_py="x", requirements_txt="httpx==0.28\n-r requirements.txt\n") == {
        "requirements.txt": b"httpx==0.28\n-r requirements.txt\n"
    }
    assert dependencies(Language.PYTHON, main_py="x") == {"requirements.txt": b""}


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "./lib",
        "-e ./lib",
        "lib @ file:lib",
        "wheels/a-1-py3-none-any.whl",
        "/srv/x",
        "-r more/a.txt",
        "-c other.txt",
    ],
)
def test_python_requirements_that_point_at_files_need_the_whole_function(line: str) -> None:
    assert dependencies(Language.PYTHON, requirements_txt=f"httpx\n{line}\n") is None


def test_node_dependencies_are_a_layer_of_their_own() -> None:
    package = '{"dependencies": {"left": "1.0.0"}, "scripts": {"test": "x"}}'
    assert dependencies(Language.NODEJS, index_js="x", package_json=package) == {"package.json": package.encode()}
    alone = dependencies(Language.NODEJS, index_js="x")
    assert alone is not None
    assert json.loads(alone["package.json"])["private"] is True


@pytest.mark.parametrize(
    "text",
    ['{"dependencies": {"a": "file:./a"}}', '{"workspaces": ["a"]}', '{"scripts": {"postinstall": "node build.js"}}'],
)
def test_node_packages_that_need_files_need_the_whole_function(text: str) -> None:
    assert dependencies(Language.NODEJS, package_json=text) is None


def test_go_dependencies_are_a_layer_of_their_own() -> None:
    module = "module shop\n\nrequire example.com/a v1.0.0\n\nreplace example.com/a => example.com/b v1.0.1\n"
    found = dependencies(Language.GO, main_go="x", go_mod=module, go_sum="sums")
    assert found == {"go.mod": module.encode(), "go.sum": b"sums"}
    assert dependencies(Language.GO, main_go="x") == {"go.mod": b"module function\n"}


@pytest.mark.parametrize("place", ["./lib", "../lib", "/srv/lib", '"./lib"'])
def test_go_modules_in_the_functions_directory_need_the_whole_function(place: str) -> None:
    assert dependencies(Language.GO, go_mod=f"module shop\n\nreplace example.com/a => {place}\n") is None
