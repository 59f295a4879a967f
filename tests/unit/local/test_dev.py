"""What a local mode is made of, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from knative_lambda import settings
from knative_lambda.local import dev


def test_environment_of_a_controller_does_not_bear_on_local_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KN_LAMBDA_BUILD_NAMESPACE", "builds")
    monkeypatch.setenv("KN_LAMBDA_CONTROLLERS", "repositories")
    monkeypatch.setenv("KN_LAMBDA_NAMESPACES", "shop")
    assert settings.load(events="none").build_namespace == "builds", "else this test proves nothing"
    found = dev._settings(dev.Options(".", tmp_path), "http://127.0.0.1:8080")
    assert (found.build_namespace, found.controllers, found.namespaces) == (None, settings.CONTROLLERS, ())


def test_dead_letters_go_to_the_port_at_which_functions_answer(tmp_path: Path) -> None:
    found = dev._settings(dev.Options(".", tmp_path, rabbitmq="amqp://u:hunter2@127.0.0.1/"), "http://127.0.0.1:8080")
    assert (found.dead_letter_url, found.events) == ("http://127.0.0.1:8080", "rabbitmq")
    assert "hunter2" not in repr(found)


def test_second_local_mode_on_a_folder_is_told_what_to_do(tmp_path: Path) -> None:
    with dev._alone(tmp_path), pytest.raises(dev.DevError, match="--state-dir"), dev._alone(tmp_path):
        pass
    with dev._alone(tmp_path):
        assert (tmp_path / "lock").exists()
