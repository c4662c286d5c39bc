"""Puts the contracts on a chain once, and finds them again: ``deployment.json``.

The file is written after every contract, and says before each which transactions to look through
should the process be killed before it knows the contract's address: a deployment that was cut goes
on where it was, and no contract is there twice.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import requests
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from eth_utils.hexadecimal import decode_hex
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from web3 import Web3
from web3.types import Nonce
from web3.utils.address import get_create_address

from blockchain.artifacts import CONTRACTS, load
from blockchain.chain_settings import ChainSettings
from blockchain.connection import connect_node, genesis_hash, unreachable
from blockchain.contract import Contract
from blockchain.durable_file import write_durably
from blockchain.errors import ChainError, ChainWasResetError, ContractMissingError, WrongChainError
from blockchain.membership import Founding
from blockchain.public_chain import PublicChain
from blockchain.sender import Sender

_FILE: Final = "deployment.json"

#: What each contract's constructor is given: the founding, or addresses of those before it.
_CONSTRUCTED_FROM: Final[dict[str, tuple[str, ...]]] = {
    "Registry": ("founding",),
    "Rounds": ("Registry",),
    "Anchors": ("Registry",),
    "Rewards": ("Registry", "Rounds"),
    "Unlearning": ("Registry", "Rounds"),
}

_log = logging.getLogger(__name__)

_Hash = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
_Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]


class DeployedContract(BaseModel):
    """Where one contract lies, and what it cost; unknown where the deployment was cut there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: _Address
    gas_used: int | None = Field(ge=0)
    code_hash: _Hash


class Deployment(BaseModel):
    """The contracts on one chain, which its id and its first block's hash name together.

    ``first_block`` is the chain's height before the first contract: none of their events lies
    below. ``next_nonce`` is the deploying account's when the contract that is missing first was
    about to be sent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain_id: int
    genesis_hash: _Hash
    first_block: int = Field(ge=0)
    contracts: dict[str, DeployedContract]
    next_nonce: int = Field(ge=0)

    @property
    def is_complete(self) -> bool:
        """Whether every contract is there."""
        return self.contracts.keys() == set(CONTRACTS)

    @property
    def addresses(self) -> dict[str, str]:
        """Address of each contract by name."""
        return {name: contract.address for name, contract in self.contracts.items()}

    @property
    def identity(self) -> tuple[int, str, dict[str, str]]:
        """What tells it from any other: the chain, and where the contracts lie on it."""
        return self.chain_id, self.genesis_hash, self.addresses


def read_deployment(folder: Path) -> Deployment | None:
    """Read ``deployment.json`` in `folder`; None where there is none."""
    path = folder / _FILE
    try:
        return Deployment.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ChainError(f"{path} is no record of a deployment: {error}") from error


#: Deployments found sound by this process, each with the node's address. On a chain that was not
#: reset the code at an address stays what it is; whatever takes it away makes all calls to it fail.
_found_sound: set[tuple[str, str]] = set()


def check_deployment(node: Web3, settings: ChainSettings, deployment: Deployment) -> None:
    """Make sure that the chain is still the one deployed on, and holds the contracts.

    Raises
    ------
    WrongChainError
        The deployment is on a chain of another id.
    ChainWasResetError
        The chain has the same id but another first block.
    ContractMissingError
        A contract is gone, its code is not this version's, or it works with another registry.
    """
    if deployment.chain_id != settings.chain_id:
        raise WrongChainError(
            f"the contracts were deployed on chain {deployment.chain_id}, the settings name chain "
            f"{settings.chain_id}: use another home folder for another chain"
        )
    genesis = genesis_hash(node, settings)
    if genesis != deployment.genesis_hash:
        raise ChainWasResetError(
            f"the chain at {settings.shown_url} was reset: its first block is {genesis[:18]}..., "
            f"that of the deployment {deployment.genesis_hash[:18]}...; all that was written "
            "before is gone from it"
        )
    checked = (settings.shown_url, deployment.model_dump_json())
    if checked in _found_sound:
        return
    unknown = deployment.contracts.keys() - set(CONTRACTS)
    if unknown:
        raise ContractMissingError(
            f"the deployment names {min(unknown)}, which this version does not have: deploy anew "
            "with `foedus deploy`"
        )
    for name, deployed in deployment.contracts.items():
        contract = Contract(node, settings, name, deployed.address, None)
        contract.check_code()
        _check_wiring(contract, deployment.addresses)
    _found_sound.add(checked)


def deploy(
    settings: ChainSettings,
    account: LocalAccount,
    folder: Path,
    founding: Callable[[], Founding],
    *,
    managed: bool = False,
) -> Deployment:
    """Deploy the shipped contracts, or find them where an earlier call deployed them.

    Parameters
    ----------
    settings : ChainSettings
        Node and chain.
    account : LocalAccount
        Account that pays.
    folder : Path
        Holds ``deployment.json``, and the account's lock file.
    founding : callable
        Returns what the registry starts with; asked only if there is none yet.
    managed : bool
        Whether the chain is the managed one, which can be begun anew: after a reset, or where it
        holds another version, the contracts are then deployed anew, with a warning. On any other
        chain this raises.

    Raises
    ------
    ChainWasResetError, ContractMissingError, WrongChainError
        See `check_deployment`.
    """
    node = connect_node(settings)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "deployment.lock", timeout=settings.receipt_timeout_seconds):
        deployment = _earlier(node, settings, folder, managed=managed)
        if deployment is not None and deployment.is_complete:
            return deployment
        if deployment is None:
            deployment = Deployment(
                chain_id=settings.chain_id,
                genesis_hash=genesis_hash(node, settings),
                first_block=_height(node, settings),
                contracts={},
                next_nonce=_next_nonce(node, settings, account.address),
            )
            write_deployment(folder, deployment)
        sender = Sender(node, settings, account, folder)
        for name in CONTRACTS:
            if name in deployment.contracts:
                continue
            deployed = _landed(name, node, settings, sender.address, deployment)
            next_nonce = deployment.next_nonce
            if deployed is None:
                arguments = _arguments(name, founding, deployment.addresses)
                deployed = _deployed(name, arguments, node, settings, sender)
                next_nonce = _next_nonce(node, settings, account.address)
            deployment = deployment.model_copy(
                update={
                    "contracts": {**deployment.contracts, name: deployed},
                    "next_nonce": next_nonce,
                }
            )
            write_deployment(folder, deployment)
    return deployment


def connect_deployed(
    settings: ChainSettings, folder: Path, account: LocalAccount | None = None
) -> PublicChain:
    """Connect to the contracts that ``deployment.json`` in `folder` names, checking them first."""
    deployment = read_deployment(folder)
    if deployment is None:
        raise ContractMissingError(f"nothing was deployed from {folder}: run `foedus deploy`")
    if not deployment.is_complete:
        missing = ", ".join(name for name in CONTRACTS if name not in deployment.contracts)
        raise ContractMissingError(
            f"{folder / _FILE} does not name {missing}: `foedus deploy` goes on where it was cut"
        )
    check_deployment(connect_node(settings), settings, deployment)
    return PublicChain.connect(settings, deployment.addresses, account, folder)


def _earlier(
    node: Web3, settings: ChainSettings, folder: Path, *, managed: bool
) -> Deployment | None:
    try:
        deployment = read_deployment(folder)
        if deployment is not None:
            check_deployment(node, settings, deployment)
    except (ChainWasResetError, ContractMissingError) as error:
        if not managed:
            raise
        _log.warning("%s; deploying anew", error)
        return None
    return deployment


def _arguments(name: str, founding: Callable[[], Founding], addresses: dict[str, str]) -> list[Any]:
    return [
        founding().argument() if source == "founding" else to_checksum_address(addresses[source])
        for source in _CONSTRUCTED_FROM[name]
    ]


def _check_wiring(contract: Contract, addresses: dict[str, str]) -> None:
    """Make sure that a contract works with the others of its deployment."""
    for source in _CONSTRUCTED_FROM[contract.name]:
        if source == "founding":
            continue
        wired = contract.read(source.upper())
        if wired != to_checksum_address(addresses[source]):
            raise ContractMissingError(
                f"{contract.name} at {contract.address} works with the {source} at {wired}, the "
                f"deployment has it at {addresses[source]}: check the addresses"
            )


def _deployed(
    name: str, arguments: list[Any], node: Web3, settings: ChainSettings, sender: Sender
) -> DeployedContract:
    artifact = load(name)
    factory = node.eth.contract(abi=artifact.abi, bytecode=decode_hex(artifact.bytecode))
    data = factory.constructor(*arguments).data_in_transaction
    receipt = sender.send(f"deployment of {name}", {"data": data})
    if receipt.contract_address is None:
        raise ContractMissingError(f"the deployment of {name} created no contract")
    contract = Contract(node, settings, name, receipt.contract_address, None)
    return DeployedContract(
        address=contract.address,
        gas_used=receipt.gas_used,
        code_hash="0x" + contract.check_code().hex(),
    )


def _landed(
    name: str, node: Web3, settings: ChainSettings, deployer: str, deployment: Deployment
) -> DeployedContract | None:
    """Find a contract that an earlier call sent and did not live to write down.

    An account's contracts lie where its address and the nonce of the transaction say.
    """
    for nonce in range(deployment.next_nonce, _next_nonce(node, settings, deployer)):
        address = get_create_address(to_checksum_address(deployer), Nonce(nonce))
        contract = Contract(node, settings, name, address, None)
        try:
            code_hash = contract.check_code()
            _check_wiring(contract, deployment.addresses)
        except ContractMissingError:
            continue
        return DeployedContract(
            address=contract.address,
            gas_used=None,
            code_hash="0x" + code_hash.hex(),
        )
    return None


def _next_nonce(node: Web3, settings: ChainSettings, account: str) -> int:
    try:
        return node.eth.get_transaction_count(to_checksum_address(account), "pending")
    except requests.RequestException as error:
        raise unreachable(settings, error) from error


def _height(node: Web3, settings: ChainSettings) -> int:
    try:
        return int(node.eth.block_number)
    except requests.RequestException as error:
        raise unreachable(settings, error) from error


def write_deployment(folder: Path, deployment: Deployment) -> None:
    """Keep where the contracts lie, in ``deployment.json`` in `folder`."""
    write_durably(folder / _FILE, deployment.model_dump_json(indent=1) + "\n")
