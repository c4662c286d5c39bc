"""The coordinator's certificates: organizations reach it by them, and nobody in its place."""

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from client_app.deployment.certificates import (
    RENEWED_DAYS,
    SERVER_DAYS,
    CertificateError,
    Certificates,
    issue_server,
    make_authority,
    read_certificate,
    server_is_due,
)
from strategies.node_key import (
    NodeKeyError,
    make_node_key,
    public_key_of,
    read_public_key,
)


def coordinator(folder, addresses=("coordinator.example", "10.0.0.1"), now=None) -> Certificates:
    files = make_authority(folder)
    issue_server(files, addresses, now)
    return files


def handshake(server: Certificates, trusted: Certificates, name: str) -> str:
    """Shake hands over TLS, and return what went wrong, if anything."""
    offered = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    offered.load_cert_chain(server.server, server.server_key)
    expected = ssl.create_default_context(cafile=str(trusted.authority))
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            offered.wrap_socket(there, server_side=True).close()
        except (ssl.SSLError, OSError):
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        expected.wrap_socket(here, server_hostname=name).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        here.close()
        thread.join()
    return ""


@pytest.mark.parametrize("name", ["coordinator.example", "10.0.0.1", "localhost", "127.0.0.1"])
def test_an_organization_reaches_the_coordinator_by_the_addresses_it_was_given(tmp_path, name):
    files = coordinator(tmp_path)
    assert handshake(files, files, name) == ""


def test_a_certificate_for_another_address_is_refused(tmp_path):
    files = coordinator(tmp_path)
    assert "not valid for 'other.example'" in handshake(files, files, "other.example")
    assert "not valid for '10.0.0.2'" in handshake(files, files, "10.0.0.2")


def test_another_coordinators_certificate_is_refused(tmp_path):
    ours, theirs = coordinator(tmp_path / "ours"), coordinator(tmp_path / "theirs")
    assert handshake(theirs, ours, "10.0.0.1")


def test_an_expired_certificate_is_refused_and_due(tmp_path):
    past = datetime.now(UTC) - timedelta(days=SERVER_DAYS + 1)
    files = coordinator(tmp_path, now=past)
    assert handshake(files, files, "10.0.0.1") == "certificate has expired"
    assert server_is_due(files, ["10.0.0.1"])


def test_a_certificate_is_due_in_its_last_month_or_where_an_address_is_missing(tmp_path):
    files = make_authority(tmp_path)
    assert server_is_due(files, ["10.0.0.1"])
    for days, due in ((0, False), (SERVER_DAYS - RENEWED_DAYS - 1, False), (368, True)):
        issue_server(files, ["10.0.0.1"], datetime.now(UTC) - timedelta(days=days))
        assert server_is_due(files, ["10.0.0.1"]) is due
    issue_server(files, ["10.0.0.1"])
    assert server_is_due(files, ["10.0.0.1", "new.example"])


def test_keys_are_readable_by_their_owner_alone_and_an_authority_is_made_once(tmp_path):
    files = coordinator(tmp_path / "tls")
    before = files.authority.read_bytes(), files.authority_key.read_bytes()
    coordinator(tmp_path / "tls")
    assert (files.authority.read_bytes(), files.authority_key.read_bytes()) == before
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    for key in (files.authority_key, files.server_key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize("lost", ["ca.pem", "ca.key"])
def test_half_an_authority_is_not_made_anew_behind_the_organizations_backs(tmp_path, lost):
    files = coordinator(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(CertificateError, match="there is but one"):
        make_authority(tmp_path)
    assert not (tmp_path / lost).exists()
    assert files.server.exists()


def test_keys_of_another_authority_and_no_keys_are_named_without_a_word_of_them(tmp_path):
    ours, theirs = coordinator(tmp_path / "ours"), coordinator(tmp_path / "theirs")
    ours.authority_key.write_bytes(theirs.authority_key.read_bytes())
    with pytest.raises(CertificateError, match="is not the key of"):
        issue_server(ours, ["10.0.0.1"])
    ours.authority_key.write_text("secret nonsense")
    with pytest.raises(CertificateError, match=r"ca\.key: no private key in PEM") as caught:
        issue_server(ours, ["10.0.0.1"])
    assert "secret" not in str(caught.value)
    with pytest.raises(CertificateError, match="no certificate in PEM"):
        read_certificate(ours.authority_key)


def test_a_nodes_key_is_made_once_for_its_owner_alone_in_flowers_form(tmp_path):
    path = make_node_key(tmp_path / "node")
    before = path.read_bytes()
    path.with_suffix(".pub").unlink()
    assert make_node_key(tmp_path / "node") == path
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = load_ssh_private_key(before, None)
    public = path.with_suffix(".pub").read_text()
    assert read_public_key(public).public_numbers() == key.public_key().public_numbers()
    assert public.strip() == public_key_of(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO0t0Wj8Zk1b1QyBq8XqFvQx8Q0l3YjvZ0mGv5cVq3Rk",
        "ecdsa-sha2-nistp384 AAAA",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "\x1b[2J",
        "é",
    ],
)
def test_what_is_no_nodes_public_key_is_refused_in_one_line(text):
    with pytest.raises(NodeKeyError) as caught:
        read_public_key(text)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_no_nodes_private_key_is_refused_without_a_word_of_it(tmp_path):
    (tmp_path / "node").write_text("secret nonsense")
    with pytest.raises(NodeKeyError, match="no private key in OpenSSH's form") as caught:
        public_key_of(tmp_path / "node")
    assert "secret" not in str(caught.value)
