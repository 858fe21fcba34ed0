from __future__ import annotations

from pathlib import Path

import pytest

from maskmend.patcher.errors import OptionError
from maskmend.service.settings import HANDED_OVER, Settings, load_settings


def test_flags_win_over_the_environment_over_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('port = 1\nqueue = 1\nconcurrency = 1\nweights = ["a", "b"]\n')
    environ = {
        "MASKMEND_PORT": "2",
        "MASKMEND_QUEUE": "2",
        "MASKMEND_CORS_ORIGINS": "https://a, https://b",
        "HOME": "/",
    }
    found = load_settings({"port": 3, "host": None}, file, environ)
    assert (found.port, found.queue, found.concurrency, found.max_batch) == (3, 2, 1, 32)
    assert found.weights == ["a", "b"]
    assert found.cors_origins == ["https://a", "https://b"]


@pytest.mark.parametrize(
    ("flags", "text", "environ", "word"),
    [
        ({"nonsense": 1}, "", {}, "nonsense"),
        ({"queue": -1}, "", {}, "queue"),
        ({}, "quueue = 3", {}, "quueue"),
        ({}, "queue = ", {}, "config"),
        ({}, "", {"MASKMEND_QUUEUE": "3"}, "MASKMEND_QUUEUE"),
        ({}, "", {"MASKMEND_TIMEOUT_S": "soon"}, "timeout_s"),
        ({"tls_cert": Path("/dev/null")}, "", {}, "tls_cert"),
        ({"api_keys_file": Path("/nowhere")}, "", {}, "api_keys_file"),
        ({"workers": 2, "grpc_port": 0}, "", {}, "grpc_port"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_named(
    tmp_path: Path, flags: dict[str, object], text: str, environ: dict[str, str], word: str
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    with pytest.raises(OptionError, match=word) as caught:
        load_settings(flags, file, environ)
    assert caught.value.field


def test_lists_come_from_the_real_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKMEND_WEIGHTS", "bpr-small, bpr-base")
    assert load_settings().weights == ["bpr-small", "bpr-base"]


def test_settings_are_handed_over_to_worker_processes_whole() -> None:
    mine = load_settings({"queue": 7, "weights": ["x"], "tls_cert": None}, None, {})
    assert load_settings({}, None, {HANDED_OVER: mine.model_dump_json(), "MASKMEND_QUEUE": "9"}) == mine


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())
