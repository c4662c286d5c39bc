"""A public validation set travels by its hash: whole and unchanged, or it is refused."""

import contextlib
import hashlib
import json
import subprocess
import sys
import time

import pytest

import strategies.handed_out
from blockchain.durable_file import write_durably
from client_app.deployment.certificates import Certificates, issue_server, make_authority
from client_app.deployment.door import Door, DoorError
from client_app.deployment.node import NodeConfiguration, authority_path, write_node
from client_app.public_set import fetch_public_set
from client_app.request import CoordinatorError
from llm.rows import DataError
from strategies.handed_out import HandedOut, hand_out, kept_content
from strategies.public_validation import public_validation_set
from strategies.settings import RunSettings, SettingsError
from tests.chain_samples import free_port

ROWS = "".join(
    json.dumps({"key": f"k{n}", "text": f"text {n}", "label": "bad"}) + "\n" for n in range(9)
)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "public.jsonl"
    path.write_text(ROWS)
    return path


def settings(home, where, **changes):
    return RunSettings.from_run_config(
        {
            "home": str(home),
            "organizations": "north,south",
            "data": "/data/{organization}.jsonl",
            "data-fields": "id=key",
            "data-labels": "bad,good",
            "public-validation": where,
            "public-validation-records": 4,
            **changes,
        }
    )


def test_a_handed_out_file_is_named_by_its_content_alone_and_drawn_from_as_its_source(
    source, tmp_path
):
    handed = hand_out(tmp_path / "home", source)
    assert handed.setting == f"sha256:{hashlib.sha256(ROWS.encode()).hexdigest()}.jsonl"
    assert HandedOut.of(handed.setting) == handed
    by_path = public_validation_set(settings(tmp_path / "home", str(source)), tmp_path)
    by_hash = public_validation_set(settings(tmp_path / "home", handed.setting), tmp_path)
    assert by_hash.hash() == by_path.hash()
    assert kept_content(tmp_path / "home", handed.sha256) == ROWS.encode()


@pytest.mark.parametrize(
    "setting",
    [
        "sha256:",
        f"sha256:{'ab' * 32}",
        f"sha256:{'AB' * 32}.jsonl",
        f"sha256:{'ab' * 31}.jsonl",
        f"sha256:{'ab' * 32}.parquet",
        f"sha256:../../{'ab' * 29}.jsonl",
        f"sha256:{'ab' * 32}.jsonl\n",
    ],
)
def test_what_names_no_content_is_no_setting(setting, tmp_path):
    assert HandedOut.of(setting) is None
    with pytest.raises(SettingsError, match="public-validation"):
        settings(tmp_path, setting)


def test_a_file_that_is_not_what_it_is_named_is_neither_read_nor_handed_out(source, tmp_path):
    home = tmp_path / "home"
    handed = hand_out(home, source)
    handed.path(home).write_text(ROWS.replace("text 1", "text one"))
    with pytest.raises(DataError, match=f"a file of SHA-256 .*, expected {handed.sha256}"):
        public_validation_set(settings(home, handed.setting), tmp_path)
    assert kept_content(home, handed.sha256) is None
    handed.path(home).unlink()
    with pytest.raises(DataError, match="No such file"):
        public_validation_set(settings(home, handed.setting), tmp_path)


def test_what_is_missing_too_large_or_of_another_kind_is_not_handed_out(
    source, tmp_path, monkeypatch
):
    with pytest.raises(DataError, match="No such file"):
        hand_out(tmp_path, tmp_path / "nothing.jsonl")
    with pytest.raises(DataError, match=r"expected a file ending in \.jsonl or \.csv"):
        hand_out(tmp_path, source.rename(tmp_path / "public.txt"))
    monkeypatch.setattr(strategies.handed_out, "MAX_BYTES", 10)
    (tmp_path / "public.txt").rename(source)
    with pytest.raises(DataError, match="more than 10 bytes"):
        hand_out(tmp_path, source)
    for name in ("../secret", "..", "", "x" * 64):
        assert kept_content(tmp_path, name) is None


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    """The coordinator's real door over TLS; what lies behind it is not there."""
    home, port = tmp_path_factory.mktemp("coordinator"), free_port()
    files = make_authority(home / "tls")
    issue_server(files, ["127.0.0.1"])
    command = [
        *(sys.executable, "-m", "server_app.serve_gateway", "--home", str(home)),
        *("--host", "127.0.0.1", "--port", str(port), "--certificate", str(files.server)),
        *("--key", str(files.server_key), "--superlink", "127.0.0.1:9"),
        *("--authority", str(files.authority), "--chain-id", "31337"),
    ]
    with subprocess.Popen(command) as process:
        made = Door.of(f"127.0.0.1:{port}", files.authority)
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            with contextlib.suppress(DoorError):
                made.federation()
                break
            time.sleep(0.2)
        yield home, made, files
        process.terminate()


@pytest.fixture
def north(door, tmp_path):
    """An organization's own home, which knows the coordinator."""
    _, there, files = door
    home = tmp_path / "north"
    write_node(home, NodeConfiguration(organization="north", coordinator=there.address))
    write_durably(authority_path(home), files.authority.read_text())
    return home


def test_an_organization_fetches_the_set_by_its_hash_once_and_draws_the_same_rows(
    door, north, source, tmp_path, monkeypatch
):
    home, _, _ = door
    handed = hand_out(home, source)
    agreed = settings(north, handed.setting)
    fetch_public_set(agreed, north, "north")
    assert handed.path(north).read_text() == ROWS
    theirs = public_validation_set(settings(home, handed.setting), tmp_path)
    assert public_validation_set(agreed, tmp_path).hash() == theirs.hash()
    monkeypatch.setattr(Door, "public", None)
    fetch_public_set(agreed, north, "north")
    fetch_public_set(settings(north, "embedded"), north, "north")


def test_a_path_that_the_coordinator_names_is_not_read(north, source):
    for path in (str(source), "/no/such/file.jsonl", "/etc/passwd"):
        with pytest.raises(CoordinatorError) as refused:
            fetch_public_set(settings(north, path), north, "north")
        # Nothing in the answer says what lies there.
        assert path not in str(refused.value)
        assert "names a path, which is not read" in str(refused.value)


def test_a_set_that_is_not_handed_out_changed_or_too_long_is_refused(
    door, north, source, monkeypatch
):
    home, there, _ = door
    missing = HandedOut("cd" * 32, "jsonl")
    with pytest.raises(
        CoordinatorError, match=r"cannot be had: .*hands out no file of SHA-256 cdcd"
    ):
        fetch_public_set(settings(north, missing.setting), north, "north")
    source.write_text(ROWS * 2)
    handed = hand_out(home, source)
    with pytest.raises(DoorError, match="sends more than 100 bytes"):
        there.public(handed.sha256, 100)
    monkeypatch.setattr(Door, "public", lambda *_: b"other rows")
    with pytest.raises(CoordinatorError, match=r"cannot be had: .*expected [0-9a-f]{64}"):
        fetch_public_set(settings(north, handed.setting), north, "north")
    assert not handed.path(north).exists()


def test_nothing_else_of_the_coordinators_home_is_behind_the_door(door):
    home, there, files = door
    assert Certificates(files.folder).authority_key.exists()
    for path in ("../tls/ca.key", "..%2ftls%2fca.key", "%2e%2e%2ftls%2fca.key", "."):
        with pytest.raises(DoorError, match="status 404"):
            there.public(path, 10**6)
    assert home.exists()
