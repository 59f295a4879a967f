"""The whole build context of one function: Dockerfile, shim, dependencies and the user's code.

Called by `kn-lambda build-context`, in the build's init container, and by local mode's builder; blocking.
"""

from __future__ import annotations

from pathlib import Path

from knative_lambda.api.conditions import Reason
from knative_lambda.api.function import Runtime, Source
from knative_lambda.resources.build_request import EXIT_REFUSED, BuildRequest
from knative_lambda.runtimes import catalog
from knative_lambda.runtimes.base import DEPENDENCIES, FUNCTION, LanguageRuntime
from knative_lambda.sources import identity, inline, tree
from knative_lambda.sources.base import Credentials, Fetcher, FetchLimits, Resolution, SourceError
from knative_lambda.sources.dial import DialPolicy
from knative_lambda.sources.git import GitFetcher

EXIT_RETRY = 1
"""Exit code when another attempt may help: the Job's backoff makes it."""
_SECRET_BYTES = 1024 * 1024
_TOP_BYTES = 8 * 1024 * 1024
"""Of a dependency file; a lock file of a big project has two or three MiB."""


def write_context(
    request: BuildRequest, *, credentials_dir: Path, into: Path, policy: DialPolicy, limits: FetchLimits
) -> Resolution:
    """`lay_out` with the source's Secret as it is mounted in `credentials_dir`, which need not be there."""
    credentials = read_credentials(credentials_dir)
    return lay_out(request, credentials=credentials, into=into, fetcher=GitFetcher(policy), limits=limits)


def lay_out(
    request: BuildRequest, *, credentials: Credentials, into: Path, fetcher: Fetcher, limits: FetchLimits
) -> Resolution:
    """Fills the empty directory `into`; raises SourceError, whose message is safe for the termination log."""
    runtime = request.runtime
    language = _language(runtime)
    _check_empty(into)
    function = into / FUNCTION
    tree.make_directory(into, FUNCTION)
    found = _fetch(request, credentials=credentials, into=function, fetcher=fetcher, limits=limits)
    _check_handler(language, runtime, function)
    _write_dependencies(language, function, into)
    for path, content in language.context_files(runtime).items():
        tree.write_file(into, path, content)
    return found


def exit_code(error: SourceError) -> int:
    """What the init container ends with: a refusal fails the Job at once, trouble that may pass is tried again."""
    return EXIT_RETRY if error.retry else EXIT_REFUSED


def read_credentials(directory: Path) -> Credentials:
    """The keys of a mounted Secret; none when nothing is mounted."""
    if not directory.is_dir():
        return Credentials()
    values = {}
    for file in sorted(directory.iterdir()):
        if file.name.startswith(".") or not file.is_file():
            continue  # kubelet's own links
        if file.stat().st_size > _SECRET_BYTES:
            raise SourceError(Reason.AUTHENTICATION_FAILED, f"the key {file.name} of the Secret is too large")
        values[file.name] = file.read_bytes().decode("utf-8", "replace")
    return Credentials(values)


def _language(runtime: Runtime) -> LanguageRuntime:
    if not catalog.supported(runtime.language, runtime.release()):
        words = f"runtime {runtime.language.value} {runtime.release()} has no builder in this release"
        raise SourceError(Reason.UNKNOWN_RUNTIME, words)
    return catalog.RUNTIMES[runtime.language]


def _check_empty(into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    if any(into.iterdir()):
        raise SourceError(Reason.SOURCE_REFUSED, "the build context is not empty")


def _fetch(
    request: BuildRequest, *, credentials: Credentials, into: Path, fetcher: Fetcher, limits: FetchLimits
) -> Resolution:
    source: Source = request.source
    if source.inline is not None:
        return inline.write(source.inline, request.runtime, into)
    if source.git is not None:
        return fetcher.fetch(source, credentials, into, limits)
    identity.known(source)  # raises for the kinds that cannot be fetched; an image is known, and not for building
    raise SourceError(Reason.INVALID_SPEC, "a ready image is deployed as it is; there is nothing to build")


def _check_handler(language: LanguageRuntime, runtime: Runtime, function: Path) -> None:
    module, name = runtime.entrypoint()
    wanted = language.handler_files(module)
    if not any(found.is_file() for file in wanted for found in function.glob(file)):
        words = f"the handler {module}.{name} needs a file {' or '.join(wanted)}; the source has none of them"
        raise SourceError(Reason.SOURCE_NOT_FOUND, words)


def _write_dependencies(language: LanguageRuntime, function: Path, into: Path) -> None:
    """Their own directory, so that a change of the code alone keeps the layer with the installed packages."""
    chosen = language.dependency_files(_top_files(function))
    if chosen is None:
        tree.copy(function, into, DEPENDENCIES)
        return
    tree.make_directory(into, DEPENDENCIES)
    for name, content in chosen.items():
        tree.write_file(into, f"{DEPENDENCIES}/{name}", content)


def _top_files(function: Path) -> dict[str, bytes]:
    """Plain files at the top, as far as they could be lists of dependencies."""
    return {
        file.name: file.read_bytes()
        for file in sorted(function.iterdir())
        if file.is_file() and not file.is_symlink() and file.stat().st_size <= _TOP_BYTES
    }
