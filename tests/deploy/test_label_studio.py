"""The compose file of Label Studio and its backend, without a container engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "deploy" / "label-studio"
TEXT = (FOLDER / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
BACKEND: dict[str, Any] = COMPOSE["services"]["backend"]
TOOL: dict[str, Any] = COMPOSE["services"]["label-studio"]


def test_the_backend_is_started_with_options_that_it_has() -> None:
    from maskmend.clients.cli.app import app

    name, *flags = BACKEND["command"]
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    options = {flag: parameter for parameter in command.params for flag in parameter.opts}
    assert {flag for flag in flags if flag.startswith("--")} <= set(options)
    known = {parameter.envvar for parameter in command.params if parameter.envvar}
    assert set(BACKEND["environment"]) <= known
    assert BACKEND["expose"] == [flags[flags.index("--port") + 1]]


def test_both_know_each_other() -> None:
    assert BACKEND["environment"]["LABEL_STUDIO_URL"] == "http://label-studio:8080"
    assert TOOL["ports"] == ["${BIND_ADDRESS:-127.0.0.1}:8080:8080"]
    assert "ports" not in BACKEND
    assert (FOLDER / BACKEND["build"]["context"]).resolve() == REPOSITORY
    assert set(TOOL["volumes"][0].split(":")[:1]) == set(COMPOSE["volumes"])


def test_every_variable_is_one_that_the_readme_sets_or_has_a_default() -> None:
    used = dict(re.findall(r"\$\{([A-Z_]+)(:[-?])", TEXT))
    told = set(re.findall(r"^([A-Z_]+)=", (FOLDER / "README.md").read_text(), re.MULTILINE))
    assert {name for name, kind in used.items() if kind == ":?"} == told


def test_secrets_are_nowhere_written_down_and_tags_do_not_wander() -> None:
    assert "latest" not in TEXT
    assert re.fullmatch(r".+:[0-9.]+", TOOL["image"])
    for service in (BACKEND, TOOL):
        for name, value in service["environment"].items():
            if re.search("PASS|KEY|TOKEN", name) and name != "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN":
                assert re.fullmatch(r"\$\{[A-Z_]+:\?.*\}", value), name


def test_the_backend_has_as_few_rights_as_it_needs() -> None:
    main = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text())["services"]["maskmend"]
    for key in ("cap_drop", "security_opt", "read_only", "tmpfs", "cpus", "mem_limit", "pids_limit"):
        assert BACKEND[key] == main[key], key
    assert BACKEND["healthcheck"]["test"][:2] == ["CMD", "python"]


@pytest.mark.parametrize("service", ["backend", "label-studio"])
def test_logs_are_bounded(service: str) -> None:
    assert COMPOSE["services"][service]["logging"]["options"]["max-size"]
