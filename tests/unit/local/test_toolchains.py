"""How each language is installed and started here, with programs that pose as the real ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from knative_lambda.api.function import Language, Runtime
from knative_lambda.local.building.commands import cleaned
from knative_lambda.local.building.images import ImageStore, LocalImage
from knative_lambda.local.building.toolchains import dockerfile, machine
from knative_lambda.local.building.toolchains.base import Plan, Toolchain, ToolchainMissing
from knative_lambda.local.building.toolchains.go import GoToolchain
from knative_lambda.local.building.toolchains.interpreters import Interpreters
from knative_lambda.local.building.toolchains.nodejs import NodejsToolchain
from knative_lambda.local.building.toolchains.python import PythonToolchain, find_uv
from knative_lambda.local.building.workshop import BuildFailed
from knative_lambda.runtimes import catalog
from knative_lambda.runtimes.base import DEPENDENCIES, FUNCTION

from . import workbench
from .workbench import BARE, order, program, with_path

NODE = Runtime(language=Language.NODEJS)
NPM = 'echo "npm $@ in" * >> {log}; mkdir -p node_modules; echo made > node_modules/made'


def context(folder: Path, runtime: Runtime, dependencies: dict[str, str]) -> Path:
    """A build context with those dependencies."""
    files = dict(catalog.RUNTIMES[runtime.language].context_files(runtime))
    files |= {f"{DEPENDENCIES}/{name}": text.encode() for name, text in dependencies.items()}
    files[f"{FUNCTION}/index.js"] = b"exports.handler = () => 1;\n"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


class Posing:
    """Programs on a PATH of their own, and a store that is filled by them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.said = folder / "said"
        self.said.touch()
        self.store = ImageStore(folder / "images")

    def node(self, version: str = "v22.1.0") -> dict[str, str]:
        program(self.programs, "node", f"echo {version}")
        program(self.programs, "npm", NPM.format(log=self.said))
        return with_path(self.programs)

    def build(self, toolchain: Toolchain, language: Language, code: str, dependencies: str = "") -> LocalImage:
        shop = workbench.workshop(self.store, self.folder / "logs", toolchain, language)
        image = self.store.find(shop.build(order(code, dependencies, language=language)))
        assert image is not None
        return image

    def lines(self) -> list[str]:
        return self.said.read_text().splitlines()


@pytest.fixture
def posing(tmp_path: Path) -> Posing:
    return Posing(tmp_path)


# ---- nodejs ----


@pytest.mark.parametrize("missing", ["node", "npm"])
def test_missing_program_is_said_with_what_to_do(tmp_path: Path, missing: str) -> None:
    for name in {"node", "npm"} - {missing}:
        program(tmp_path / "bin", name, "echo v22.0.0")
    toolchain = NodejsToolchain({"PATH": str(tmp_path / "bin")})
    with pytest.raises(
        ToolchainMissing, match=f"{missing} is not found on PATH.*install Node.js 20 or newer"
    ) as caught:
        toolchain.plan(context(tmp_path / "context", NODE, {"package.json": "{}"}), NODE)
    assert (caught.value.tool, caught.value.code) == (missing, 127)


def test_program_that_is_broken_is_said(tmp_path: Path) -> None:
    program(tmp_path / "bin", "node", "echo libicu is missing >&2; exit 1")
    program(tmp_path / "bin", "npm", "true")
    with pytest.raises(ToolchainMissing, match=r"does not work .libicu is missing"):
        NodejsToolchain(with_path(tmp_path / "bin")).plan(context(tmp_path / "c", NODE, {"package.json": "{}"}), NODE)


def test_first_layer_is_the_shims_own_lock_without_scripts(posing: Posing) -> None:
    posing.build(NodejsToolchain(posing.node()), Language.NODEJS, "exports.handler = () => 1;\n")
    assert posing.lines() == ["npm ci --omit=dev --ignore-scripts in package-lock.json package.json"]


def test_package_without_dependencies_installs_nothing(posing: Posing) -> None:
    toolchain = NodejsToolchain(posing.node())
    package = '{"name": "hello", "main": "index.js", "dependencies": {}, "devDependencies": {"jest": "1"}}'
    posing.build(toolchain, Language.NODEJS, "exports.handler = () => 1;\n", package)
    assert len(posing.lines()) == 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"package.json": '{"dependencies": {"ms": "1"}}'}, ["install"]),
        ({"package.json": '{"dependencies": {"ms": "1"}}', "package-lock.json": "{}"}, ["ci"]),
        ({"package.json": '{"dependencies": {"ms": "1"}}', "npm-shrinkwrap.json": "{}"}, ["ci"]),
        ({"package.json": '{"scripts": {"postinstall": "true"}}'}, ["install"]),
        ({"package.json": '{"scripts": {"test": "jest"}}'}, []),
        ({"package.json": "not JSON"}, ["install"]),
        ({"package.json": "[]"}, ["install"]),
    ],
)
def test_dependencies_are_installed_as_the_dockerfile_does(
    posing: Posing, files: dict[str, str], expected: list[str]
) -> None:
    plan = NodejsToolchain(posing.node()).plan(context(posing.folder / "context", NODE, files), NODE)
    with posing.store.workspace() as space, workbench.terms(posing.folder) as terms:
        space.put(plan, posing.folder / "context", terms)
    assert [line.split()[1] for line in posing.lines()[1:]] == expected


def test_modules_are_linked_to_and_shared(posing: Posing) -> None:
    toolchain, package = NodejsToolchain(posing.node()), '{"dependencies": {"ms": "1"}}'
    one = posing.build(toolchain, Language.NODEJS, "exports.handler = () => 1;\n", package)
    two = posing.build(toolchain, Language.NODEJS, "exports.handler = () => 2;\n", package)
    assert one.folder != two.folder
    for place in ("node_modules", "runtime/node_modules"):
        assert (one.folder / place / "made").read_text() == "made\n"
        assert (one.folder / place).resolve() == (two.folder / place).resolve()
    assert len(posing.lines()) == 2


def test_another_version_of_node_has_modules_of_its_own(posing: Posing) -> None:
    for version in ("v22.1.0", "v24.0.0"):
        toolchain = NodejsToolchain(posing.node(version))
        image = posing.build(toolchain, Language.NODEJS, "exports.handler = () => 1;\n")
        assert image.runtime == f"nodejs {version[1:3]}"
    assert len(posing.lines()) == 2


def test_server_of_node_is_held_to_loopback(posing: Posing) -> None:
    image = posing.build(NodejsToolchain(posing.node()), Language.NODEJS, "exports.handler = () => 1;\n")
    assert image.command[0] == str(posing.programs / "node")
    assert image.env["HOST"] == "127.0.0.1"


def test_npm_that_fails_leaves_no_layer(posing: Posing) -> None:
    environment = posing.node()
    program(posing.programs, "npm", "mkdir node_modules; echo npm error code E404; exit 1")
    with pytest.raises(BuildFailed) as caught:
        posing.build(NodejsToolchain(environment), Language.NODEJS, "exports.handler = () => 1;\n")
    assert (caught.value.tool, caught.value.code, caught.value.message) == ("npm", 1, "npm error code E404")
    assert list((posing.folder / "images" / "layers").iterdir()) == []


# ---- python ----

UV = """
echo "uv $@" >> {log}
if [ "$1" = venv ]; then
  for last; do true; done
  mkdir -p "$last/bin" "$last/lib/python3/site-packages"
  ln -s {python} "$last/bin/python"
  echo "#!$last/bin/python" > "$last/bin/flask"
fi
"""


def uv(posing: Posing) -> PythonToolchain:
    script = UV.format(log=posing.said, python=program(posing.programs, "posing-python", "true"))
    return PythonToolchain(BARE, uv=str(program(posing.programs, "uv", script)))


def test_first_layer_is_the_shims_own_pins_with_hashes(posing: Posing) -> None:
    image = posing.build(uv(posing), Language.PYTHON, workbench.CODE)
    made, installed = posing.lines()
    assert made.startswith(f"uv venv --quiet --python {sys.executable} ")
    assert installed.endswith("--compile-bytecode --require-hashes --no-deps -r requirements.txt")
    assert image.runtime == f"python {sys.version_info.major}.{sys.version_info.minor}"
    assert image.env["HOST"] == "127.0.0.1"


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n\n  # really\n"])
def test_empty_requirements_install_nothing(posing: Posing, text: str) -> None:
    posing.build(uv(posing), Language.PYTHON, workbench.CODE, text)
    assert len(posing.lines()) == 2


def test_own_requirements_go_into_a_copy_of_the_first_layer(posing: Posing) -> None:
    toolchain = uv(posing)
    plain = posing.build(toolchain, Language.PYTHON, workbench.CODE)
    own = posing.build(toolchain, Language.PYTHON, workbench.CODE, "six==1.16.0\n")
    assert posing.lines()[2].endswith("--compile-bytecode -r requirements.txt")
    assert len(posing.lines()) == 3
    first, second = (Path(image.command[0]).with_name("flask") for image in (plain, own))
    assert first.read_text() == f"#!{first.with_name('python')}\n"
    assert second.read_text() == f"#!{second.with_name('python')}\n"


OWN = f"3.{sys.version_info.minor}"
OTHER = next(version for version in ("3.12", "3.13") if version != OWN)
SAYS = 'echo \'[3, {minor}, "{program}", "3.{minor}.1 (main)", "linux", "/base"]\''


def posing_python(folder: Path, release: str, *, name: str = "") -> Path:
    """A program that says of itself to be that Python."""
    made = folder / (name or f"python{release}")
    return program(folder, made.name, SAYS.format(minor=release.partition(".")[2], program=made))


def python_plan(toolchain: PythonToolchain, folder: Path, version: str | None) -> Plan:
    runtime = Runtime(language=Language.PYTHON, version=version)
    return toolchain.plan(context(folder / f"context-{version}", runtime, {"requirements.txt": ""}), runtime)


def test_version_that_is_asked_for_and_is_not_here_is_said_with_what_to_do(posing: Posing) -> None:
    plan = python_plan(PythonToolchain({"PATH": str(posing.programs)}), posing.folder, OTHER)
    assert plan.notes == (
        f"the function asks for python {OTHER}, this machine runs it with {OWN}; "
        f"with python{OTHER} on PATH (uv python install {OTHER}) it would get that",
    )
    assert plan.runtime == f"python {OWN}"


def test_version_that_is_asked_for_and_is_here_is_the_one_that_runs(posing: Posing) -> None:
    script = UV.format(log=posing.said, python=program(posing.programs, "posing-python", "true"))
    found = posing_python(posing.programs, OTHER)
    installer = str(program(posing.programs, "uv", script))
    toolchain = PythonToolchain(with_path(posing.programs), uv=installer)
    plan, own = (python_plan(toolchain, posing.folder, version) for version in (OTHER, OWN))
    assert (plan.runtime, plan.notes) == (f"python {OTHER}", ())
    assert (own.runtime, own.notes) == (f"python {OWN}", ())
    assert plan.layers[0].key != own.layers[0].key
    with posing.store.workspace() as space, workbench.terms(posing.folder) as terms:
        space.put(plan, posing.folder / f"context-{OTHER}", terms)
    assert posing.lines()[-2].startswith(f"uv venv --quiet --python {found} ")


def test_without_a_version_our_own_interpreter_runs_and_only_the_log_says_that_the_default_is_another(
    posing: Posing,
) -> None:
    posing_python(posing.programs, Runtime(language=Language.PYTHON).release())
    plan = python_plan(PythonToolchain({"PATH": str(posing.programs)}), posing.folder, None)
    assert plan.runtime == f"python {OWN}"
    assert [note.partition(",")[2] for note in plan.notes] == [f" this machine runs it with {OWN}"]


@pytest.mark.parametrize(
    "script", ["exit 127", "echo no JSON", "echo '[3, 1]'", SAYS.format(minor=1, program="/old")], ids=str
)
def test_what_is_no_python_of_that_version_is_passed_over(tmp_path: Path, script: str) -> None:
    program(tmp_path, f"python{OTHER}", script)
    interpreters = Interpreters({"PATH": str(tmp_path)}, uv=None)
    assert interpreters.find(OTHER) is None
    installed = posing_python(tmp_path, OTHER)
    found = interpreters.find(OTHER)
    assert found is not None, "what is installed meanwhile counts"
    assert found.program == str(installed)


def test_uv_and_pyenv_are_asked_where_a_python_is(tmp_path: Path) -> None:
    known = posing_python(tmp_path / "uv", OTHER, name="python")
    uv = program(tmp_path / "bin", "uv", f'[ "$2 $5" = "find {OTHER}" ] && echo {known}')
    found = Interpreters({"PATH": "/usr/bin:/bin"}, uv=str(uv)).find(OTHER)
    assert found is not None
    assert found.program == str(known)
    for number in (9, 10):  # the newest counts, and not by its first letter
        kept = posing_python(tmp_path / ".pyenv" / "versions" / f"{OTHER}.{number}" / "bin", OTHER)
    for environment in ({"HOME": str(tmp_path)}, {"PYENV_ROOT": str(tmp_path / ".pyenv")}):
        found = Interpreters({"PATH": "", **environment}, uv=None).find(OTHER)
        assert found is not None
        assert found.program == str(kept)


def test_uv_is_found_on_path(tmp_path: Path) -> None:
    found = program(tmp_path, "uv", "true")
    assert find_uv({"PATH": str(tmp_path)}) == str(found)


def test_every_language_with_a_runtime_has_a_toolchain() -> None:
    assert set(machine.toolchains(cleaned({}))) == set(catalog.RUNTIMES)


def test_language_without_a_toolchain_is_refused_by_name(posing: Posing) -> None:
    shop = workbench.workshop(posing.store, posing.folder / "logs", uv(posing), Language.PYTHON)
    with pytest.raises(BuildFailed, match="functions in nodejs can only be built in a cluster") as caught:
        shop.build(order("exports.handler = () => 1;\n", language=Language.NODEJS))
    assert caught.value.code == 127


# ---- go ----

GO = Runtime(language=Language.GO)
GO_CODE = "package function\n"
GO_SCRIPT = """
if [ "$1" = env ]; then echo go1.26.8; exit; fi
echo "go $1 in" * "with $GOFLAGS" >> {log}
printf '#!/bin/sh\\necho compile "$@" >> {log}\\necho server > "$4"\\n' > "$3"
chmod +x "$3"
"""


def test_missing_go_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ToolchainMissing, match=r"go is not found on PATH.*install Go 1\.25 or newer"):
        GoToolchain({"PATH": str(tmp_path)}).plan(context(tmp_path / "context", GO, {}), GO)


def test_function_in_go_is_compiled_once_for_its_code(posing: Posing) -> None:
    program(posing.programs, "go", GO_SCRIPT.format(log=posing.said))
    toolchain = GoToolchain(with_path(posing.programs))
    one = posing.build(toolchain, Language.GO, GO_CODE)
    again = posing.build(toolchain, Language.GO, GO_CODE)
    other = posing.build(toolchain, Language.GO, GO_CODE + "// changed\n")
    assert one == again
    assert other.command != one.command
    assert Path(one.command[0]).read_text() == "server\n"
    assert (one.env, one.runtime) == ({"HOST": "127.0.0.1"}, "go 1.26")
    first, *compiled = posing.lines()
    assert first.startswith("go build in answers.go compile events.go go.mod")
    assert "-mod=mod" in first
    assert [line.split()[0] for line in compiled] == ["compile", "compile"]


def test_files_beside_a_program_in_go_are_the_functions_own(posing: Posing) -> None:
    program(posing.programs, "go", GO_SCRIPT.format(log=posing.said))
    image = posing.build(GoToolchain(with_path(posing.programs)), Language.GO, GO_CODE)
    assert [path.name for path in (image.folder / "function").iterdir()] == ["main.go"]


# ---- the Dockerfile ----


def test_environment_of_the_build_is_the_first_stages() -> None:
    text = 'FROM a\nENV A=1 B="two words"\nRUN x\nENV C=3\nFROM scratch\nENV HOME=/tmp\n'
    assert dockerfile.environment(text) == {"A": "1", "B": "two words", "C": "3"}


@pytest.mark.parametrize("runtime", [Runtime(language=language) for language in catalog.RUNTIMES], ids=str)
def test_every_dockerfile_says_how_its_functions_start(runtime: Runtime) -> None:
    files = catalog.RUNTIMES[runtime.language].context_files(runtime)
    assert len(dockerfile.command(files["Dockerfile"].decode())) > 0


def test_start_names_this_machines_folder_where_the_image_has_its_own() -> None:
    words = dockerfile.command('FROM x\nCMD ["a"]\nCMD ["python", "/app/runtime/shim.py", "--source=/app/x"]\n')
    assert dockerfile.moved(words, Path("/here")) == ("python", "/here/runtime/shim.py", "--source=/here/x")


@pytest.mark.parametrize("text", ["", "FROM x\n", "CMD python main.py\n"])
def test_dockerfile_without_a_start_is_no_dockerfile_of_ours(text: str) -> None:
    with pytest.raises(ValueError):
        dockerfile.command(text)
