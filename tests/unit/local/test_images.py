"""The store of functions that can be run: what is shared, what counts, what goes and what stays."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from knative_lambda.local.building.commands import CommandFailed, Expired, Stopped
from knative_lambda.local.building.images import ImageStore, StoreTaken
from knative_lambda.local.building.workshop import BuildFailed

from .workbench import CODE, Bench, order

OTHER = "def handler(event):\n    return 'other'\n"
ABSENT = "registry/tenant/hello@sha256:" + "0" * 64


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def reference(digest: str) -> str:
    return f"localhost:5001/tenant/hello@{digest}"


def test_image_holds_shim_and_code_and_can_be_found(bench: Bench) -> None:
    digest = bench.build()
    image = bench.store.find(reference(digest))
    assert image is not None
    assert (image.digest, image.runtime) == (digest, "python")
    assert (image.folder / "function" / "main.py").read_text() == CODE
    assert (image.folder / "runtime" / "runtime.json").is_file()
    assert image.command[-1] == str(image.folder)
    assert (Path(image.env["LAYER"]) / "content").stat().st_size == 1000
    assert bench.left_over() == []


@pytest.mark.parametrize(
    "text", ["", "registry/hello:1.0", "registry/hello@sha256:short", "../../etc@sha256:../../x", ABSENT]
)
def test_what_is_no_reference_of_ours_is_not_found(bench: Bench, text: str) -> None:
    bench.build()
    assert bench.store.find(text) is None


def test_unchanged_function_gives_the_same_digest_in_the_next_process(bench: Bench) -> None:
    first = bench.build()
    again = bench.reopened()
    assert again.build(name="another-job") == first
    assert again.toolchain.installed == []


def test_changed_code_is_another_image_on_the_same_dependencies(bench: Bench) -> None:
    assert bench.build() != bench.build(OTHER)
    assert len(bench.toolchain.installed) == 1


def test_other_dependencies_are_another_image_and_another_layer(bench: Bench) -> None:
    assert bench.build() != bench.build(dependencies="six\n")
    assert len(set(bench.toolchain.installed)) == 2


def test_files_of_an_image_are_read_only(bench: Bench) -> None:
    image = bench.store.find(bench.build())
    assert image is not None
    files = [path for path in image.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 2
    assert [path for path in files if path.stat().st_mode & 0o222] == []


def test_two_builds_that_need_the_same_layer_install_it_once(bench: Bench) -> None:
    bench.toolchain.paused = True
    digests: list[str] = []
    threads = [threading.Thread(target=lambda code=code: digests.append(bench.build(code))) for code in (CODE, OTHER)]
    for thread in threads:
        thread.start()
    wait_for(lambda: bench.toolchain.running == 1)
    time.sleep(0.2)
    assert bench.toolchain.running == 1
    bench.toolchain.paused = False
    for thread in threads:
        thread.join(10)
    assert (len(set(digests)), len(bench.toolchain.installed)) == (2, 1)


def test_two_builds_of_the_same_function_at_once_are_one_image(bench: Bench) -> None:
    digests: list[str] = []
    threads = [threading.Thread(target=lambda: digests.append(bench.build())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(digests) == 2
    assert len(set(digests)) == 1
    assert bench.left_over() == []


def test_failed_installation_leaves_no_layer_and_is_tried_again(bench: Bench) -> None:
    bench.toolchain.failing.append(CommandFailed("pip", 1, "no matching distribution"))
    with pytest.raises(BuildFailed, match="no matching distribution"):
        bench.build()
    assert list((bench.folder / "images" / "layers").iterdir()) == []
    assert bench.left_over() == []
    assert bench.store.find(bench.build()) is not None


@pytest.mark.parametrize("error", [Stopped(), Expired()])
def test_build_that_is_ended_leaves_nothing(bench: Bench, error: Exception) -> None:
    bench.toolchain.failing.append(error)
    with pytest.raises(type(error)):
        bench.build()
    assert list((bench.folder / "images" / "layers").iterdir()) == []
    assert bench.left_over() == []


def test_build_that_waits_for_anothers_layer_can_be_stopped(bench: Bench) -> None:
    bench.toolchain.paused = True
    first = threading.Thread(target=bench.build)
    first.start()
    wait_for(lambda: bench.toolchain.running == 1)
    second = order(OTHER, name="second")
    second.stop.set()
    with pytest.raises(Stopped):
        bench.workshop.build(second)
    bench.toolchain.paused = False
    first.join(10)


def test_half_made_folders_of_a_dead_process_are_removed(bench: Bench) -> None:
    digest = bench.build()
    half = bench.folder / "images" / "building" / "tmp123" / "content"
    half.mkdir(parents=True)
    (half / "begun").touch()
    half.chmod(0o555)
    again = bench.reopened()
    assert again.left_over() == []
    assert again.store.find(digest) is not None


def test_folder_of_another_layout_is_made_anew(bench: Bench) -> None:
    digest = bench.build()
    (bench.folder / "images" / "version").write_text("0")
    again = bench.reopened()
    assert again.store.find(digest) is None
    assert again.build() == digest


@pytest.mark.parametrize("content", ["", "{", '{"bytes": "many"}', '{"bytes": 1, "unknown": 2}', "null"])
def test_image_whose_note_cannot_be_read_is_built_again(bench: Bench, content: str) -> None:
    digest = bench.build()
    note = bench.folder / "images" / "images" / digest.removeprefix("sha256:") / "note.json"
    note.write_text(content)
    assert bench.store.find(digest) is None
    assert bench.build() == digest
    assert bench.store.find(digest) is not None


def test_image_whose_layer_was_deleted_by_hand_is_built_again(bench: Bench) -> None:
    digest = bench.build()
    layer = next((bench.folder / "images" / "layers").iterdir())
    layer.rename(bench.folder / "taken-away")
    assert bench.store.find(digest) is None
    assert bench.build() == digest
    assert len(bench.toolchain.installed) == 2


def test_second_process_is_told_that_the_folder_is_taken(bench: Bench) -> None:
    with pytest.raises(StoreTaken, match="another kn-lambda works in"):
        ImageStore(bench.folder / "images")
    bench.store.close()
    ImageStore(bench.folder / "images").close()


def test_moved_folder_still_serves(bench: Bench, tmp_path: Path) -> None:
    digest = bench.build()
    bench.store.close()
    moved = tmp_path / "elsewhere"
    (bench.folder / "images").rename(moved)
    store = ImageStore(moved)
    image = store.find(digest)
    assert image is not None
    assert image.command[-1] == str(moved / "images" / digest.removeprefix("sha256:") / "app")


# ---- eviction ----


def filled(bench: Bench, count: int) -> list[str]:
    """Images of one layer each, the first the one that was used least recently."""
    digests = [bench.build(dependencies=f"package-{number}\n") for number in range(count)]
    for age, digest in enumerate(digests):
        folder = bench.folder / "images" / "images" / digest.removeprefix("sha256:")
        os.utime(folder / "note.json", (age + 1, age + 1))
    for note in (bench.folder / "images" / "layers").glob("*/note.json"):
        os.utime(note, (1, 1))
    return digests


def small(tmp_path: Path, *, grace: float = 0.0) -> Bench:
    """Room for two layers of 100,000 bytes with their images, not for three."""
    bench = Bench(tmp_path, limit=280_000, grace=grace)
    bench.toolchain.bytes = 100_000
    return bench


def test_nothing_goes_below_the_limit(bench: Bench) -> None:
    digests = filled(bench, 2)
    assert bench.store.evict() == []
    assert all(bench.store.find(digest) for digest in digests)


def test_what_was_used_least_recently_goes_first_with_its_layer(tmp_path: Path) -> None:
    bench = small(tmp_path)
    first, second, third = filled(bench, 3)
    gone = bench.store.evict()
    assert gone[0] == first.removeprefix("sha256:")
    assert len(list((tmp_path / "images" / "layers").iterdir())) == 2
    assert bench.store.find(first) is None
    assert bench.store.find(second) is not None
    assert bench.store.find(third) is not None


def test_finding_an_image_is_using_it(tmp_path: Path) -> None:
    bench = small(tmp_path)
    first, second, _ = filled(bench, 3)
    assert bench.store.find(first) is not None
    bench.store.evict()
    assert bench.store.find(first) is not None
    assert bench.store.find(second) is None


def test_what_is_in_use_never_goes(tmp_path: Path) -> None:
    bench = small(tmp_path)
    digests = filled(bench, 3)
    assert bench.store.evict(keep=[reference(digest) for digest in digests]) == []
    assert all(bench.store.find(digest) for digest in digests)


def test_what_was_used_a_moment_ago_never_goes(tmp_path: Path) -> None:
    bench = small(tmp_path, grace=600)
    digests = [bench.build(dependencies=f"package-{number}\n") for number in range(3)]
    assert bench.store.evict() == []
    assert all(bench.store.find(digest) for digest in digests)


def test_layer_of_a_build_that_runs_never_goes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limit=0)
    first = bench.build(dependencies="shared\n")
    assert len(bench.toolchain.installed) == 1
    with bench.store.workspace() as space:
        key = bench.toolchain.installed[0]
        bench.store.hold(key, space)
        bench.store.evict()
        assert [one.name for one in (tmp_path / "images" / "layers").iterdir()] == [key]
    bench.store.evict()
    assert list((tmp_path / "images" / "layers").iterdir()) == []
    assert bench.store.find(first) is None


def test_evicted_function_can_be_built_again(tmp_path: Path) -> None:
    bench = small(tmp_path)
    first = filled(bench, 3)[0]
    bench.store.evict()
    assert bench.build(dependencies="package-0\n") == first
    assert bench.store.find(first) is not None


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
