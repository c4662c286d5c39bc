"""Invitations, and what organizations answer to them."""

import json
import stat
from pathlib import Path

import pytest
from eth_account import Account

from client_app.deployment.certificates import make_authority
from strategies.invitation import Invitation, InvitationError, new_token, token_hash
from strategies.joining import Joining, JoiningError
from strategies.node_key import make_node_key, node_key_hash, public_key_of

CHAIN = 31337
ACCOUNT = Account.from_key(b"\x01" * 32)
OTHER = Account.from_key(b"\x02" * 32)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    make_authority(folder / "tls")
    for name in ("ours", "theirs"):
        make_node_key(folder / name)
    return folder


def public(files, name="ours") -> str:
    return public_key_of(files / name / "node")


def invitation(files, **changes) -> Invitation:
    fields = {
        "organization": "cinema",
        "address": "coordinator.example:9443",
        "authority": (files / "tls" / "ca.pem").read_text(),
        "chain_id": CHAIN,
        "token": "ab" * 32,
        "expires": 2_000_000_000,
    }
    return Invitation(**{**fields, **changes})


def joining(files, account=ACCOUNT, **changes) -> Joining:
    fields = {"organization": "cinema", "node_key": public(files), "token": "ab" * 32}
    return Joining.signed(account, **{**fields, "chain_id": CHAIN, **changes})


def test_an_invitation_is_read_as_it_was_written_and_its_owner_alone_can(files, tmp_path):
    made = invitation(files, chain_url="https://node.example/")
    made.write(tmp_path / "cinema.json")
    assert Invitation.read(tmp_path / "cinema.json") == made
    assert stat.S_IMODE((tmp_path / "cinema.json").stat().st_mode) == 0o600
    assert made.token not in repr(made)


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("coordinator.example:9443", "coordinator.example", 9443),
        ("10.0.0.1:1", "10.0.0.1", 1),
        ("[fe80::1]:9443", "fe80::1", 9443),
    ],
)
def test_an_address_is_host_and_port(files, address, host, port):
    made = invitation(files, address=address)
    assert (made.host, made.port) == (host, port)


def faults():
    """What is no invitation, from one that is; named."""
    for field in ("organization", "address", "authority", "chain_id", "token", "expires"):
        yield f"without {field}", lambda document, field=field: document.pop(field)
    for field, value in (
        ("version", 2),
        ("organization", "../x"),
        ("organization", ""),
        ("address", "https://x"),
        ("address", "x"),
        ("address", "x:y"),
        ("address", "a b:1"),
        ("authority", "nothing"),
        ("chain_id", "31337"),
        ("chain_id", 0),
        ("token", "ab"),
        ("token", "AB" * 32),
        ("expires", -1),
        ("more", 1),
    ):
        yield f"{field} {value!r}", lambda document, f=field, v=value: document.update({f: v})


@pytest.mark.parametrize(("name", "change"), list(faults()), ids=lambda v: str(v)[:30])
def test_what_is_no_invitation_is_refused_in_one_line_without_its_token(
    files, tmp_path, name, change
):
    document = invitation(files).model_dump()
    change(document)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InvitationError, match="is no invitation") as caught:
        Invitation.read(path)
    assert len(str(caught.value).splitlines()) == 1
    assert "ab" * 32 not in str(caught.value)
    assert "AB" * 32 not in str(caught.value)


def test_no_file_and_a_file_that_is_too_long_are_no_invitations(tmp_path):
    with pytest.raises(InvitationError, match="No such file"):
        Invitation.read(tmp_path / "nothing")
    (tmp_path / "long").write_bytes(b" " * 100_000)
    with pytest.raises(InvitationError, match="100000 bytes"):
        Invitation.read(tmp_path / "long")


def test_tokens_differ_and_the_coordinator_keeps_a_hash(files):
    first, second = new_token(), new_token()
    assert first != second
    assert len(token_hash(first)) == 32
    assert first not in token_hash(first).hex()
    with pytest.raises(InvitationError, match="64 hexadecimal digits"):
        token_hash("secret")


def test_an_answer_binds_name_key_and_node_under_one_signature(files):
    made = joining(files)
    read = Joining.read(made.model_dump_json().encode(), chain_id=CHAIN)
    assert read == made
    assert read.key == ACCOUNT.address
    assert read.node_key_hash == node_key_hash(public(files))
    assert node_key_hash(public(files) + " comment") == read.node_key_hash
    assert node_key_hash(public(files, "theirs")) != read.node_key_hash


def corruptions(files):
    """What an answer may be changed to; each must be refused."""
    valid = json.loads(joining(files).model_dump_json())
    others = {
        "organization": "shop",
        "key": OTHER.address,
        "node_key": public(files, "theirs"),
        "token": "cd" * 32,
        "signature": joining(files, OTHER).signature,
    }
    for field, value in others.items():
        yield field, {**valid, field: value}
    yield "half the signature", {**valid, "signature": valid["signature"][:64]}
    yield "no node key", {**valid, "node_key": "ssh-rsa AAAA"}
    yield "no token", {**valid, "token": ""}
    yield "more", {**valid, "more": 1}
    for field in valid.keys() - {"version"}:
        yield f"without {field}", {k: v for k, v in valid.items() if k != field}


def test_no_change_to_an_answer_holds(files):
    for name, document in corruptions(files):
        with pytest.raises(JoiningError) as caught:
            Joining.read(json.dumps(document).encode(), chain_id=CHAIN)
        assert len(str(caught.value).splitlines()) == 1, name
        assert "ab" * 32 not in str(caught.value), name


def test_an_answer_for_one_chain_is_none_for_another(files):
    with pytest.raises(JoiningError, match="expected the key"):
        Joining.read(joining(files).model_dump_json().encode(), chain_id=1)


@pytest.mark.parametrize("content", [b"", b"[", b"[]", b"\xff", b"{}"])
def test_what_is_no_answer_is_refused_in_one_line(content):
    with pytest.raises(JoiningError, match="no answer to an invitation"):
        Joining.read(content, chain_id=CHAIN)
