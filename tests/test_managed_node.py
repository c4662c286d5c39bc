"""The managed node, the deployment on it and the keys it is used with."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from eth_account import Account

from blockchain import artifacts, toolchain
from blockchain.artifacts import CONTRACTS
from blockchain.deployment import connect_deployed, deploy, read_deployment
from blockchain.errors import (
    ArtifactError,
    ChainError,
    ChainWasResetError,
    ContractMissingError,
    KeyFileError,
    NodeError,
    NodeUnreachableError,
    ToolchainMissingError,
    TransactionFailedError,
    TransactionRevertedError,
    WrongChainError,
)
from blockchain.keys import fund_from_development_account, open_account
from blockchain.managed_node import ManagedNode
from blockchain.public_chain import PublicChain
from tests.chain_samples import (
    DISPUTES,
    GENESIS,
    ask,
    changed,
    digest,
    founding_of,
    free_port,
)

pytestmark = pytest.mark.real
pytest_plugins = ["tests.chain_fixtures"]


@pytest.fixture
def node(tmp_path):
    """A node of its own for a test that stops it."""
    node = ManagedNode(tmp_path, free_port())
    yield node
    node.stop()


def test_a_second_start_finds_the_first_node(chain_node):
    first = chain_node.status()
    assert first.running
    assert chain_node.start().pid == first.pid


def test_processes_that_start_at_once_get_one_node_that_outlives_them(node):
    code = (
        "import sys; from pathlib import Path; from blockchain.managed_node import ManagedNode;"
        "print(ManagedNode(Path(sys.argv[1]), int(sys.argv[2])).start().pid)"
    )
    command = [sys.executable, "-c", code, str(node.folder.parent), str(node.port)]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    pids = {starter.communicate(timeout=60)[0].strip() for starter in starters}
    assert pids == {str(node.status().pid)}
    assert node.status().running


def test_stop_ends_the_node_once_and_says_whether_there_was_one(node):
    pid = node.start().pid
    assert node.stop()
    assert not psutil.pid_exists(pid)
    assert not node.status().running
    assert not node.stop()


def test_stop_never_touches_a_process_that_has_only_the_id_in_common(node, chain_node):
    # A record as it would look after the machine gave the id to somebody else's node.
    record = json.loads((chain_node.folder / "node.json").read_text())
    for change in ({"started": record["started"] - 3600}, {"command": ["node", "other"]}):
        node.folder.mkdir(exist_ok=True)
        (node.folder / "node.json").write_text(json.dumps({**record, **change}))
        assert not node.stop()
        assert chain_node.status().running


def test_a_node_that_died_is_started_again(node):
    pid = node.start().pid
    os.kill(pid, signal.SIGKILL)
    psutil.Process(pid).wait(5)
    assert not node.status().running
    assert node.start().pid != pid


def test_a_port_in_use_by_something_else_is_said(node):
    with socket.socket() as other:
        other.bind(("127.0.0.1", node.port))
        other.listen()
        with pytest.raises(NodeError, match=f"port {node.port} is in use by something else"):
            node.start()
    assert not (node.folder / "node.json").exists()


def test_a_node_on_another_port_than_asked_for_is_said(chain_node):
    with pytest.raises(NodeError, match=f"already runs on port {chain_node.port}, not 1:"):
        ManagedNode(chain_node.folder.parent, 1).start()


def test_a_record_that_is_none_is_said(tmp_path):
    node = ManagedNode(tmp_path, free_port())
    node.folder.mkdir()
    (node.folder / "node.json").write_text('{"pid": 1}')
    with pytest.raises(NodeError, match="is no record of a node"):
        node.start()


def test_without_hardhat_the_message_says_make_setup(node, tmp_path, monkeypatch):
    (tmp_path / "hardhat.config.ts").touch()
    monkeypatch.setenv(toolchain.HARDHAT_VARIABLE, str(tmp_path))
    with pytest.raises(ToolchainMissingError, match="make setup"):
        node.start()
    monkeypatch.setenv(toolchain.HARDHAT_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(ToolchainMissingError, match=toolchain.HARDHAT_VARIABLE):
        node.start()


def test_hardhat_is_found_from_a_copy_of_the_code_that_lies_elsewhere(tmp_path):
    # As in Flower's unpacked bundle: the packages are there, the hardhat folder is not.
    package = Path(toolchain.__file__).parent
    (tmp_path / "blockchain").mkdir()
    for name in ("__init__.py", "errors.py", "toolchain.py"):
        (tmp_path / "blockchain" / name).write_bytes((package / name).read_bytes())
    code = "import blockchain.toolchain as t; print(t.__file__); print(t.hardhat_folder())"
    environment = {k: v for k, v in os.environ.items() if k != toolchain.HARDHAT_VARIABLE}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    module, found = run.stdout.split()
    assert Path(module).is_relative_to(tmp_path)
    assert Path(found) == package.parent / "hardhat"


def never_founded():
    raise AssertionError("a registry that is there is not founded again")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory, chain_account):
    """A node with the contracts, for tests that spoil the note of them."""
    node = ManagedNode(tmp_path_factory.mktemp("deployed"), free_port())
    node.start()
    try:
        fund_from_development_account(node.settings, chain_account.address, node.folder)
        founding = founding_of(chain_account.address)
        yield node, deploy(node.settings, chain_account, node.folder, lambda: founding)
    finally:
        node.stop()


@pytest.mark.parametrize("kept", range(len(CONTRACTS)))
def test_a_deployment_that_was_cut_goes_on_where_it_was(deployed, chain_account, kept):
    node, whole = deployed
    count = ask(node.settings, "eth_getTransactionCount", chain_account.address, "latest")
    # As a process leaves it that was killed with a contract on its way: sent and not written down.
    known = {name: whole.contracts[name] for name in CONTRACTS[:kept]}
    nonce = int(count, 16) - len(CONTRACTS) + kept
    cut = whole.model_copy(update={"contracts": known, "next_nonce": nonce})
    (node.folder / "deployment.json").write_text(cut.model_dump_json())
    with pytest.raises(ContractMissingError, match=f"does not name {CONTRACTS[kept]}"):
        connect_deployed(node.settings, node.folder)
    again = deploy(node.settings, chain_account, node.folder, never_founded)
    assert again.addresses == whole.addresses
    assert count == ask(node.settings, "eth_getTransactionCount", chain_account.address, "latest")


def test_deploying_twice_finds_the_first_deployment(chain, chain_node, chain_account):
    first = read_deployment(chain_node.folder)
    again = deploy(chain_node.settings, chain_account, chain_node.folder, never_founded)
    assert again == first
    assert first.addresses == chain.addresses
    assert all(contract.gas_used < 5_000_000 for contract in first.contracts.values())


def test_a_chain_that_was_reset_is_said_and_deployed_anew_only_where_managed(
    node, chain_account, caplog
):
    node.start()
    fund_from_development_account(node.settings, chain_account.address, node.folder)
    founding = founding_of(chain_account.address)
    first = deploy(node.settings, chain_account, node.folder, lambda: founding, managed=True)
    old = connect_deployed(node.settings, node.folder, chain_account)
    task = old.open_task(digest("terms"), GENESIS, DISPUTES).task
    node.stop()
    with pytest.raises(NodeUnreachableError, match="foedus chain start"):
        old.task(task)
    (node.folder / "journal.jsonl").unlink()
    node.start()
    with pytest.raises(ContractMissingError, match="the chain was reset"):
        old.task(task)
    with pytest.raises(ContractMissingError, match="the chain was reset"):
        PublicChain.connect(node.settings, first.addresses)
    fund_from_development_account(node.settings, chain_account.address, node.folder)
    with pytest.raises((ChainWasResetError, ContractMissingError), match="reset"):
        connect_deployed(node.settings, node.folder)
    with pytest.raises((ChainWasResetError, ContractMissingError), match="reset"):
        deploy(node.settings, chain_account, node.folder, never_founded)
    assert read_deployment(node.folder) == first
    second = deploy(node.settings, chain_account, node.folder, lambda: founding, managed=True)
    assert "deploying anew" in caplog.text
    assert read_deployment(node.folder) == second
    new = connect_deployed(node.settings, node.folder, chain_account)
    # Same account, same nonce, same address: only the task itself tells that its chain is gone.
    with pytest.raises(TransactionRevertedError, match="RoundsUnknownTask"):
        new.task(task)
    assert new.open_task(digest("terms"), GENESIS, DISPUTES).task == task


def test_a_deployment_on_another_first_block_is_a_reset(chain, chain_node, tmp_path):
    deployment = read_deployment(chain_node.folder)
    other = deployment.model_copy(update={"genesis_hash": "0x" + "0" * 64})
    (tmp_path / "deployment.json").write_text(other.model_dump_json())
    with pytest.raises(ChainWasResetError, match="all that was written before is gone"):
        connect_deployed(chain_node.settings, tmp_path)


def test_a_deployment_on_another_chain_id_is_refused(chain, chain_node, tmp_path):
    deployment = read_deployment(chain_node.folder).model_copy(update={"chain_id": 5})
    (tmp_path / "deployment.json").write_text(deployment.model_dump_json())
    with pytest.raises(WrongChainError, match="deployed on chain 5"):
        connect_deployed(chain_node.settings, tmp_path)


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda d: "",
        lambda d: "[]",
        lambda d: json.dumps({**d, "genesis_hash": "0x12"}),
        lambda d: json.dumps({**d, "contracts": {}}),
        lambda d: json.dumps({**d, "more": 1}),
        lambda d: json.dumps({**d, "chain_id": "many"}),
    ],
)
def test_a_malformed_deployment_record_is_refused(chain, chain_node, tmp_path, corrupt):
    valid = json.loads((chain_node.folder / "deployment.json").read_text())
    (tmp_path / "deployment.json").write_text(corrupt(valid))
    with pytest.raises(ChainError, match=r"deployment\.json"):
        connect_deployed(chain_node.settings, tmp_path)


def test_nothing_deployed_is_said(chain_node, tmp_path):
    with pytest.raises(ContractMissingError, match="foedus deploy"):
        connect_deployed(chain_node.settings, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bytecode", "0x00"),
        ("deployed_bytecode", "0x00"),
        ("abi", []),
        ("compiler", {"version": "0.0.1"}),
        ("immutable_ranges", [[0, 32]]),
    ],
)
def test_a_shipped_artifact_other_than_the_sources_compile_to_is_told(
    monkeypatch, capsys, field, value
):
    # `make test` compares with what they do compile to.
    fresh = {name: artifacts.load(name) for name in CONTRACTS}
    monkeypatch.setattr(artifacts, "compiled", lambda: fresh)
    assert artifacts.main(["--check"]) == 0
    fresh["Rounds"] = replace(fresh["Rounds"], **{field: value})
    assert artifacts.main(["--check"]) == 1
    assert "blockchain/abi/Rounds.json is not what" in capsys.readouterr().err


def test_an_artifact_that_is_none_is_refused():
    with pytest.raises(ArtifactError, match=r"Nothing\.json is not a contract artifact"):
        artifacts.load("Nothing")


def test_an_account_is_made_once_and_private(chain_account, chain_folder):
    folder = chain_folder / "keys"
    assert open_account(folder) is open_account(folder)
    for name in ("coordinator.json", "coordinator.passphrase"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert chain_account.key.hex() not in (folder / "coordinator.json").read_text()


@pytest.fixture
def keystore(chain_account, chain_folder, tmp_path):
    """A copy of the account's files, to be spoilt."""
    for name in ("coordinator.json", "coordinator.passphrase"):
        copy = tmp_path / name
        copy.touch(0o600)
        copy.write_bytes((chain_folder / "keys" / name).read_bytes())
    return tmp_path / "coordinator.json"


@pytest.mark.parametrize("name", ["coordinator.json", "coordinator.passphrase"])
def test_a_key_file_that_others_can_read_is_refused(keystore, name):
    keystore.with_name(name).chmod(0o640)
    with pytest.raises(KeyFileError, match="rights 640"):
        open_account(keystore.parent)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("n", 2), ("n", 2**16), ("n", 2**30), ("r", 1), ("p", 0), ("dklen", 16), ("n", "262144")],
)
def test_a_keystore_with_weak_or_ruinous_parameters_is_refused(keystore, parameter, value):
    document = json.loads(keystore.read_text())
    document["crypto"]["kdfparams"][parameter] = value
    keystore.write_text(json.dumps(document))
    with pytest.raises(KeyFileError, match=f"scrypt {parameter} is"):
        open_account(keystore.parent)


def test_a_keystore_with_another_derivation_is_refused(keystore, chain_account):
    weak = Account.encrypt(chain_account.key, "password", kdf="pbkdf2", iterations=1)
    keystore.write_text(json.dumps(weak))
    with pytest.raises(KeyFileError, match="expected scrypt"):
        open_account(keystore.parent)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"crypto": 1}'])
def test_a_file_that_is_no_keystore_is_refused(keystore, text):
    keystore.write_text(text)
    with pytest.raises(KeyFileError, match="no keystore"):
        open_account(keystore.parent)


def test_a_wrong_or_missing_passphrase_is_said(keystore):
    passphrase = keystore.with_name("coordinator.passphrase")
    passphrase.write_text("wrong")
    with pytest.raises(KeyFileError, match="no keystore that its passphrase file opens"):
        open_account(keystore.parent)
    passphrase.unlink()
    with pytest.raises(KeyFileError, match=r"coordinator\.passphrase cannot be read"):
        open_account(keystore.parent)


def test_an_account_is_funded_once(chain_account, chain_node):
    def balance() -> int:
        return int(ask(chain_node.settings, "eth_getBalance", chain_account.address, "latest"), 16)

    before = balance()
    assert 99 * 10**18 < before <= 100 * 10**18
    fund_from_development_account(chain_node.settings, chain_account.address, chain_node.folder)
    assert balance() == before


def test_nobody_is_funded_on_another_chain_than_the_development_one(chain_account, chain_node):
    with pytest.raises(TransactionFailedError, match="development chain 31337 only"):
        fund_from_development_account(
            changed(chain_node.settings, chain_id=1), chain_account.address, chain_node.folder
        )
