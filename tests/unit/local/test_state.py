"""Where local mode keeps its state, and how others see that it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from knative_lambda.local import state


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "knative-lambda" / "dev"


def test_a_repository_has_one_folder_however_its_path_is_written(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = state.default_state(str(tmp_path / "shop"))
    assert found == state.default_state("shop") == state.default_state(f"{tmp_path}/other/../shop/")
    assert found.parent == cache
    assert found.name.startswith("shop-")


def test_two_repositories_of_one_name_have_two_folders() -> None:
    here, there = (state.default_state(f"https://{host}/me/functions.git") for host in ("a.example", "b.example"))
    assert here.name.startswith("functions-")
    assert here != there


@pytest.mark.parametrize("place", ["https://host", "https://host/..", "https://host/%2e%2e/..", "/"])
def test_a_place_without_a_name_leaves_the_cache_nowhere(cache: Path, place: str) -> None:
    found = state.default_state(place)
    assert found.parent == cache
    assert found.name not in ("", ".", "..")


def test_without_a_cache_folder_it_is_below_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for value in ("", "relative/is/not/valid"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert state.home() == tmp_path / "me" / ".cache" / "knative-lambda" / "dev"


def test_a_folder_runs_as_long_as_it_is_held(tmp_path: Path) -> None:
    shop = state.default_state("shop")
    assert state.running() == []
    descriptor = state.hold(shop)
    assert state.running() == [shop]
    with pytest.raises(state.Held, match="runs already with the state folder"):
        state.hold(shop)
    os.close(descriptor)
    assert state.running() == []


def test_other_users_reach_what_functions_of_root_need_and_look_at_nothing_else(tmp_path: Path) -> None:
    """Only root's functions are other users: a person's folder is closed."""
    shop = tmp_path / "shop"
    os.close(state.hold(shop))
    found = {path.relative_to(shop).as_posix(): path.stat().st_mode & 0o7 for path in shop.rglob("*")}
    assert shop.stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)
    assert found.pop("images") == found.pop("processes") == 0o1
    assert set(found.values()) == {0}


def test_a_killed_process_holds_nothing() -> None:
    shop = state.default_state("shop")
    script = "import sys, pathlib; from knative_lambda.local import state\n"
    script += "state.hold(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    root = Path(state.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(shop)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert state.running() == [shop]
        holder.kill()
        holder.wait(10)
    assert state.running() == []
    os.close(state.hold(shop))
