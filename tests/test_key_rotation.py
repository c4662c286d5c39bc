"""Keys: a rotation killed anywhere ends with the key that the chain knows, and no key is lost."""

import itertools
import json
import stat

import pytest

from blockchain.errors import TransactionFailedError
from blockchain.keys import fund_from_development_account, open_account
from blockchain.merkle import organization_id
from client_app import key_rotation
from client_app.key_rotation import NEXT, RotationError, pending, rotate
from strategies.deployed_members import joined_organizations, paying_keys
from strategies.joined import Joined
from strategies.organization_key import key_folder, signing_account, signing_address
from strategies.settings import RunSettings, SettingsError
from tests.foedus_command import foedus
from tests.signing_cases import NAMES, account_of
from tests.small_federation import KilledError
from tests.travelling_chain import store_key

__all__ = ["foedus"]

pytestmark = pytest.mark.real
pytest_plugins = ["tests.travelling_chain"]

WHO = organization_id("west")


@pytest.fixture(scope="module")
def home(tmp_path_factory, travelling):
    """One home: each rotation begins where the one before ended."""
    return travelling.home(tmp_path_factory.mktemp("rotated"), *NAMES)


@pytest.fixture
def settings(home, travelling):
    return RunSettings(home=str(home), chain_url=str(travelling.settings.rpc_url))


@pytest.fixture
def rotated(settings, travelling):
    """Rotate, and return the old and the new address once all is as it must be."""

    def run():
        fund()
        rotation = rotate(settings, travelling.chain, "west")
        folder = key_folder(settings.home_path, "west")
        assert travelling.chain.members.key_of(WHO) == rotation.new
        assert signing_account(settings.home_path, "west").address == rotation.new
        assert open_account(folder, f"signing.{rotation.old}").address == rotation.old
        assert not list(folder.glob(f"{NEXT}*[!k]"))
        assert pending(folder) is None
        for path in (*folder.glob("*.json"), *folder.glob("*.passphrase")):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        return rotation

    def fund():
        # On a chain that is not the managed one, an organization sees to it that it can pay.
        address = signing_address(settings.home_path, "west")
        fund_from_development_account(travelling.settings, address, travelling.folder)

    fund()
    return run


def test_a_rotation_replaces_the_key_on_the_chain_and_on_disk(rotated):
    rotation = rotated()
    assert rotation.old == account_of("west").address
    assert rotation.transaction is not None


def test_what_the_coordinator_gives_on_the_managed_chain_is_given_to_the_key_of_now(
    settings, travelling, rotated, tmp_path
):
    rotation = rotated()
    for name, key in (("west", rotation.old), ("nobody", "0x" + "11" * 20)):
        joined_organizations(tmp_path).write(Joined(name, key, "ssh-x", 1, "ab" * 32, "cd" * 65))
    assert paying_keys(tmp_path, travelling.chain) == ["0x" + "11" * 20, rotation.new]


def killed(*_, **__):
    raise KilledError


def test_a_rotation_killed_between_transaction_and_swap_is_finished(
    settings, travelling, rotated, monkeypatch
):
    before = signing_address(settings.home_path, "west")
    with monkeypatch.context() as patch:
        patch.setattr(key_rotation, "_swap", killed)
        with pytest.raises(KilledError):
            rotate(settings, travelling.chain, "west")
    registered = travelling.chain.members.key_of(WHO)
    assert registered == pending(key_folder(settings.home_path, "west")) != before
    rotation = rotated()
    assert (rotation.old, rotation.new, rotation.transaction) == (before, registered, None)


@pytest.mark.parametrize("step", range(4))
def test_a_swap_killed_at_any_step_is_finished(settings, travelling, rotated, monkeypatch, step):
    before, steps = signing_address(settings.home_path, "west"), itertools.count()
    real_copy, real_sync = key_rotation._copy, key_rotation.sync_folder

    def until(real):
        def take(*arguments):
            if next(steps) == step:
                raise KilledError
            return real(*arguments)

        return take

    with monkeypatch.context() as patch:
        patch.setattr(key_rotation, "_copy", until(real_copy))
        patch.setattr(key_rotation, "sync_folder", until(real_sync))
        with pytest.raises(KilledError):
            rotate(settings, travelling.chain, "west")
    if step < 3:
        rotation = rotated()
        assert (rotation.old, rotation.transaction) == (before, None)
    else:
        # The keystore was in place: what was left of the passphrase does no harm, now or later.
        assert signing_address(settings.home_path, "west") == travelling.chain.members.key_of(WHO)
        signing_account(settings.home_path, "west")


def test_a_rotation_killed_before_its_transaction_goes_on_with_the_same_key(
    settings, travelling, rotated, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(key_rotation, "paying_chain", killed)
        with pytest.raises(KilledError):
            rotate(settings, travelling.chain, "west")
    new = pending(key_folder(settings.home_path, "west"))
    assert new != travelling.chain.members.key_of(WHO)
    assert rotated().new == new


def test_a_transaction_that_landed_unnoticed_is_not_made_twice(
    settings, travelling, rotated, monkeypatch
):
    members = type(travelling.chain.members)
    real = members.rotate_key

    def unnoticed(*arguments):
        real(*arguments)
        raise TransactionFailedError("did not land in time")

    with monkeypatch.context() as patch:
        patch.setattr(members, "rotate_key", unnoticed)
        with pytest.raises(TransactionFailedError):
            rotate(settings, travelling.chain, "west")
    assert rotated().transaction is None


def test_a_key_that_the_chain_does_not_know_and_a_stranger_are_refused(settings, home, travelling):
    store_key(key_folder(home, "north"), "signing", account_of("someone else").key)
    with pytest.raises(RotationError, match="the key of north on the chain is"):
        rotate(settings, travelling.chain, "north")
    store_key(key_folder(home, "north"), "signing", account_of("north").key)
    store_key(key_folder(home, "stranger"), "signing", account_of("stranger").key)
    with pytest.raises(RotationError, match="stranger is no member"):
        rotate(settings, travelling.chain, "stranger")
    with pytest.raises(SettingsError, match="there is no signing key of 'nobody'"):
        rotate(settings, travelling.chain, "nobody")
    assert not key_folder(home, "nobody").exists()


@pytest.fixture
def at(home, settings):
    """Options of a home whose newest run names the chain."""
    run = home / "runs" / "treaty" / "run.json"
    run.parent.mkdir(parents=True, exist_ok=True)
    run.write_text(json.dumps({"settings": settings.to_run_config(), "started": "2026"}))
    return ("--home", str(home))


def test_members_are_listed_with_thresholds_and_whose_keys_lie_here(foedus, at, home, travelling):
    status, out, _ = foedus("members", "--json", *at)
    listed = json.loads(out)
    assert status == 0
    assert [member["name"] for member in listed["members"]] == list(NAMES)
    assert [member["attestor"] for member in listed["members"]] == [True, True, False, False]
    assert (listed["threshold"], listed["attestor_threshold"], listed["simulated"]) == (3, 2, True)
    assert listed["coordinators"] == [account_of("coordinator").address]
    west = listed["members"][3]
    assert west["key"] == travelling.chain.members.key_of(WHO)
    assert west["key_since"] > west["since"] > 0
    _, out, _ = foedus("members", *at)
    assert "a change needs 3 of 4 members, an attestation 2 of 2 attestors" in out
    assert "one operator holds all keys: a simulation" in out
    aside = (home / "organizations" / "south").rename(home / "south")
    try:
        _, out, _ = foedus("members", *at)
        assert "a simulation" not in out
    finally:
        aside.rename(home / "organizations" / "south")


def test_keys_are_made_listed_and_rotated_by_command_and_never_shown(foedus, at, home, travelling):
    status, out, _ = foedus("keys", "new", "--org", "fifth", "--json", *at)
    made = json.loads(out)
    assert (status, made["made"]) == (0, True)
    _, out, _ = foedus("keys", "new", "--org", "fifth", *at)
    assert out == f"{made['address']} (it was there already)\n"
    status, out, _ = foedus("keys", "rotate", "--org", "south", "--json", *at)
    assert (status, json.loads(out)["new"]) == (
        0,
        travelling.chain.members.key_of(organization_id("south")),
    )
    status, out, _ = foedus("keys", "list", "--json", *at)
    keys = {(key["owner"], key["use"]): key["registered"] for key in json.loads(out)["keys"]}
    assert status == 0
    assert keys["coordinator", "signing"]
    assert keys["south", "signing"]
    assert not keys["south", "old"]
    assert not keys["fifth", "signing"]
    _, out, _ = foedus("keys", "list", *at)
    for path in home.rglob("*.passphrase"):
        assert path.read_text() not in out
    for wrong in ("No Name", "a,b", "../x"):
        status, _, err = foedus("keys", "new", "--org", wrong, *at)
        assert (status, len(err.strip().splitlines())) == (2, 1)


def test_keys_are_listed_where_no_chain_answers(foedus, tmp_path):
    store_key(key_folder(tmp_path, "west"), "signing", account_of("west").key)
    status, out, err = foedus("keys", "list", "--json", "--home", str(tmp_path))
    assert status == 0
    assert [key["registered"] for key in json.loads(out)["keys"]] == [None]
    assert len(err.strip().splitlines()) == 1
