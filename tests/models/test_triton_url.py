"""What a Triton URL may say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskmend.models.runtimes.triton_url import parse_triton_url, with_patience
from maskmend.patcher.errors import OptionError


def test_servers_ports_and_options(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    target = parse_triton_url(
        f"grpc://gpu-1,https://gpu-2:8443, http://[::1]/?model=m&wait_s=30&timeout_s=2.5&ca_file={tmp_path / 'ca.pem'}"
    )
    assert [server.url for server in target.servers] == ["grpc://gpu-1:8001", "https://gpu-2:8443", "http://[::1]:8000"]
    assert [(server.is_grpc, server.is_tls) for server in target.servers] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    assert target.servers[2].host == "::1"
    assert (target.model, target.wait_s, target.timeout_s, target.shared_memory) == ("m", 30, 2.5, False)
    assert parse_triton_url("grpc://localhost?shared_memory=1").shared_memory


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "0 servers"),
        ("?wait_s=1", "0 servers"),
        ("localhost:8001", "begin with"),
        ("ftp://a", "begin with"),
        ("grpc://", "begin with"),
        ("grpc://user:secret@a", "user name"),
        ("grpc://a/path", "path"),
        ("grpc://a:99999", "no URL"),
        ("grpc://a:0", "port"),
        ("grpc://[::1", "no URL"),
        ("grpc://a b", "host"),
        ("grpc://a,grpc://a:8001", "twice"),
        (",".join(f"grpc://h{n}" for n in range(65)), "65 servers"),
        ("grpc://a?shm=1", "unknown option 'shm'"),
        ("grpc://a?wait_s=1&wait_s=2", "twice"),
        ("grpc://a?wait_s=nan", "wait_s"),
        ("grpc://a?timeout_s=0", "timeout_s"),
        ("grpc://a?wait_s=99999", "wait_s"),
        ("grpc://a?model=../x", "model"),
        ("grpc://a?shared_memory=yes", "shared_memory"),
        ("grpc://a?shared_memory=1", "this machine"),
        ("grpc://a?ca_file=/nowhere", "ca_file"),
        ("grpc://a?wait_s", "wait_s"),
        ("grpc://a?" + "&".join(f"o{n}=1" for n in range(40)), "more than 32 options"),
    ],
)
def test_what_is_wrong_is_named_without_an_echo(text: str, word: str) -> None:
    with pytest.raises(OptionError, match=word) as caught:
        parse_triton_url(text)
    assert caught.value.field == "triton_url"
    assert "secret" not in str(caught.value)


@given(st.text(alphabet="grpchts:/?&=,.[]@%01ab \x00é", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        servers = parse_triton_url(text).servers
    except OptionError as error:
        said = str(error)
        servers = ()
    else:
        said = ""
    assert servers or 0 < len(said) < 400


def test_patience_is_that_of_the_url_first() -> None:
    assert with_patience("grpc://a", wait_s=2, start_s=60) == "grpc://a?wait_s=2&start_s=60"
    assert with_patience("grpc://a?wait_s=9", wait_s=2, start_s=60) == "grpc://a?wait_s=9&start_s=60"
    both = "grpc://a?wait_s=9&start_s=1"
    assert with_patience(both, wait_s=2, start_s=60) == both
