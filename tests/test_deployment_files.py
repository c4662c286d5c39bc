"""What machines are told: files that people edit, read with one clear line for what is wrong."""

import io
import json
import stat
import sys
import tomllib
from types import SimpleNamespace

import pytest

from blockchain.deployment import read_deployment
from client_app.deployment.commented_toml import ConfigurationError
from client_app.deployment.coordinator import (
    CoordinatorConfiguration,
    configuration_path,
    read_coordinator,
    write_configuration,
)
from client_app.deployment.node import (
    NodeConfiguration,
    authority_path,
    node_path,
    organizations_here,
    read_node,
    write_node,
)
from client_app.deployment.start_node import (
    NotReadyError,
    fetch_contracts,
    start_node,
    write_guard,
)
from strategies.run_chain import chain_settings
from strategies.settings import RunSettings
from tests.foedus_command import foedus

__all__ = ["foedus"]


def coordinator(**changes) -> CoordinatorConfiguration:
    fields = {"organizations": ["north", "south"], "addresses": ["10.0.0.1"]}
    return CoordinatorConfiguration(**{**fields, **changes})


def node(**changes) -> NodeConfiguration:
    fields = {"organization": "north", "data": "/srv/reviews.jsonl"}
    return NodeConfiguration(**{**fields, **changes})


@pytest.mark.parametrize(
    ("write", "read", "made"),
    [
        (
            write_configuration,
            read_coordinator,
            coordinator(run={"rounds": 3, "quantization": "none", "learning-rate": 0.02}),
        ),
        (
            write_node,
            lambda home: read_node(home, "north"),
            node(bundles=["ab" * 32], coordinator="c:1", token_price=7),
        ),
    ],
)
def test_a_file_says_what_each_setting_is_and_is_read_as_it_was_written(
    tmp_path, write, read, made
):
    path = write(tmp_path, made)
    assert read(tmp_path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    for name, field in type(made).model_fields.items():
        key = name.replace("_", "-")
        above = text[: text.index(f"\n[{key}]" if key == "run" else f"\n{key} = ")]
        first_words = " ".join(field.description.split()[:4])
        assert first_words in above.replace("\n# ", " "), name


def faults():
    """What a coordinator's file must not say: the key, its value in TOML, and what is named."""
    yield "organizations", '["north", "north"]', "an organization is named twice"
    yield "organizations", "[]", "organizations"
    yield "organizations", '["North Pole"]', "organizations.0"
    yield "addresses", '["https://x"]', "addresses.0"
    yield "port", "0", "port"
    yield "port", '"9443"', "port"
    yield "port", "9100", "two of the ports are the same"
    yield "chain-id", "1", "the managed node's chain id is 31337"
    yield "prot", "1", "prot"


@pytest.mark.parametrize(("key", "value", "named"), list(faults()))
def test_what_cannot_be_is_named_with_the_file_in_one_line(tmp_path, key, value, named):
    path = write_configuration(tmp_path, coordinator())
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key} = ")]
    path.write_text("\n".join([f"{key} = {value}", *lines]))
    with pytest.raises(ConfigurationError) as caught:
        read_coordinator(tmp_path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert named in said
    assert len(said.splitlines()) == 1


def test_a_missing_file_and_one_that_is_no_toml_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"coordinator\.toml: No such file"):
        read_coordinator(tmp_path)
    path = write_configuration(tmp_path, coordinator())
    path.write_text("port = = 1")
    with pytest.raises(ConfigurationError, match="is no TOML"):
        read_coordinator(tmp_path)


@pytest.mark.parametrize(
    ("addresses", "address"),
    [(["a.example", "10.0.0.1"], "a.example:9443"), (["fe80::1"], "[fe80::1]:9443")],
)
def test_the_first_address_stands_in_the_invitations(addresses, address):
    assert coordinator(addresses=addresses).address == address


def test_a_run_is_given_what_the_coordinator_was_told(tmp_path):
    told = coordinator(run={"rounds": 3}).run_config(tmp_path)
    settings = RunSettings.from_run_config({**told, "bundle": "ab" * 32})
    assert settings.organization_names == ["north", "south"]
    assert (settings.rounds, settings.home_path) == (3, tmp_path)
    other = coordinator(chain_url="https://node.example", chain_id=5).run_config(tmp_path)
    assert other["chain-url"] == "https://node.example"
    assert "chain-port" not in other


def test_a_node_hands_its_application_what_is_its_own_and_nothing_else(tmp_path):
    config = node(coordinator="c.example:9443", token_budget=5).node_config(tmp_path)
    assert config["chain-url"] == "https://c.example:9443/chain"
    assert config["data"] == "/srv/reviews.jsonl"
    known = RunSettings().to_run_config().keys() | {"organization"}
    assert config.keys() <= known
    assert node(chain_url="https://mine.example").url == "https://mine.example"


def test_whose_nodes_a_machine_runs_is_told_by_their_files(tmp_path):
    assert organizations_here(tmp_path) == []
    for name in ("south", "north"):
        write_node(tmp_path, node(organization=name))
    (tmp_path / "organizations" / "other").mkdir()
    assert organizations_here(tmp_path) == ["north", "south"]
    assert node_path(tmp_path, "north").exists()
    assert not configuration_path(tmp_path).exists()


def test_a_node_that_has_not_joined_or_agreed_to_nothing_is_not_started(tmp_path):
    with pytest.raises(NotReadyError, match="north has not joined yet: `foedus join"):
        start_node(tmp_path, node(), print)
    with pytest.raises(ConfigurationError, match="bundles: none is agreed to"):
        start_node(tmp_path, node(coordinator="127.0.0.1:1"), print)


def told_by(monkeypatch, answer):
    """Have the coordinator's door say this of the federation."""
    door = SimpleNamespace(federation=lambda: answer)
    monkeypatch.setattr(
        "client_app.deployment.start_node.Door", SimpleNamespace(of=lambda *_: door)
    )


def test_contracts_that_take_the_place_of_those_known_are_refused(tmp_path, monkeypatch):
    def deployment(address):
        contract = {"address": address, "gas_used": 1, "code_hash": "0x" + "ab" * 32}
        found = {"chain_id": 1, "genesis_hash": "0x" + "cd" * 32, "first_block": 0}
        return {**found, "contracts": {"Registry": contract}, "next_nonce": 1}

    ours, theirs = "0x" + "11" * 20, "0x" + "22" * 20
    for answer, said in (({}, "does not say"), ({"deployment": None}, "not founded yet")):
        told_by(monkeypatch, answer)
        with pytest.raises(NotReadyError, match=said):
            fetch_contracts(tmp_path, node(coordinator="c:1"))
    for _ in range(2):
        told_by(monkeypatch, {"deployment": deployment(ours)})
        fetch_contracts(tmp_path, node(coordinator="c:1"))
    told_by(monkeypatch, {"deployment": deployment(theirs)})
    with pytest.raises(NotReadyError, match="names other contracts than those kept"):
        fetch_contracts(tmp_path, node(coordinator="c:1"))
    assert read_deployment(tmp_path / "chain").addresses == {"Registry": ours}


def test_the_guard_stands_in_flowers_place_for_its_owner_alone(tmp_path):
    folder = write_guard(tmp_path / "bin", ["ab" * 32, "cd" * 32])
    script = folder / "flwr-clientapp"
    assert stat.S_IMODE(script.stat().st_mode) == 0o700
    text = script.read_text()
    assert f"--bundle {'ab' * 32} --bundle {'cd' * 32}" in text
    assert " -P " in text
    assert "bundle_guard.py" in text


def test_a_file_is_toml_that_others_read_as_well(tmp_path):
    path = write_configuration(tmp_path, coordinator(addresses=["a.example"], run={"rank": 4}))
    document = tomllib.loads(path.read_text())
    assert document["addresses"] == ["a.example"]
    assert document["run"] == {"rank": 4}
    assert json.dumps(document)


def test_the_coordinators_authority_is_trusted_for_its_own_door_alone(tmp_path):
    authority = authority_path(tmp_path)
    authority.parent.mkdir()
    authority.write_text("a certificate")

    def trusted(url):
        settings = RunSettings.from_run_config({"home": str(tmp_path), "chain-url": url})
        return chain_settings(settings).authority

    node = NodeConfiguration(organization="north", coordinator="coordinator.example:9443")
    assert trusted(node.url) == authority
    assert trusted("https://node.example/v3/key") is None


def test_what_init_was_not_given_it_asks_for(foedus, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("north,south\n10.0.0.1\n"))
    status, _, _ = foedus("init", "coordinator", "--home", str(tmp_path / "coordinator"))
    assert status == 0
    made = read_coordinator(tmp_path / "coordinator")
    assert (made.organizations, made.addresses) == (["north", "south"], ["10.0.0.1"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("north\n/srv/rows.jsonl\n"))
    status, _, _ = foedus("init", "organization", "--home", str(tmp_path / "north"))
    assert status == 0
    assert read_node(tmp_path / "north", "north").data == "/srv/rows.jsonl"
