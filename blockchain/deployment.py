"""Puts the contract on a chain once, and finds it again: ``deployment.json``."""

import logging
from pathlib import Path
from typing import Annotated, Final

import requests
from eth_account.signers.local import LocalAccount
from eth_utils.hexadecimal import decode_hex
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from web3 import Web3

from blockchain.artifacts import load
from blockchain.chain_settings import ChainSettings
from blockchain.connection import connect_node, unreachable
from blockchain.durable_file import write_durably
from blockchain.errors import ChainError, ChainWasResetError, ContractMissingError, WrongChainError
from blockchain.public_chain import PublicChain, check_code
from blockchain.sender import Sender

_FILE: Final = "deployment.json"

_log = logging.getLogger(__name__)

_Hash = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
_Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]


class DeployedContract(BaseModel):
    """Where one contract lies, and how it came there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: _Address
    transaction_hash: _Hash
    block_number: int = Field(ge=0)
    gas_used: int = Field(ge=0)
    code_hash: _Hash


class Deployment(BaseModel):
    """The contracts on one chain, which its id and its first block's hash name together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain_id: int
    genesis_hash: _Hash
    contracts: dict[str, DeployedContract]

    @property
    def rounds_address(self) -> str:
        """Address of the contract ``Rounds``."""
        return self.contracts["Rounds"].address


def read_deployment(folder: Path) -> Deployment | None:
    """Read ``deployment.json`` in `folder`; None where there is none."""
    path = folder / _FILE
    try:
        deployment = Deployment.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ChainError(f"{path} is no record of a deployment: {error}") from error
    if "Rounds" not in deployment.contracts:
        raise ChainError(f"{path} names no contract Rounds: deploy anew in another folder")
    return deployment


def check_deployment(node: Web3, settings: ChainSettings, deployment: Deployment) -> None:
    """Make sure that the chain is still the one deployed on, and holds the contract.

    Raises
    ------
    WrongChainError
        The deployment is on a chain of another id.
    ChainWasResetError
        The chain has the same id but another first block.
    ContractMissingError
        The contract is gone, or its code is not this version's.
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
    check_code(node, settings, deployment.rounds_address)


def deploy(
    settings: ChainSettings, account: LocalAccount, folder: Path, *, managed: bool = False
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
    managed : bool
        Whether the chain is the managed one, which loses its state when it stops: after a reset,
        or where it holds another version, the contracts are then deployed anew, with a warning.
        On any other chain this raises.

    Raises
    ------
    ChainWasResetError, ContractMissingError, WrongChainError
        See `check_deployment`.
    """
    node = connect_node(settings)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "deployment.lock", timeout=settings.receipt_timeout_seconds):
        earlier = read_deployment(folder)
        if earlier is not None:
            try:
                check_deployment(node, settings, earlier)
            except (ChainWasResetError, ContractMissingError) as error:
                if not managed:
                    raise
                _log.warning("%s; deploying anew", error)
            else:
                return earlier
        sender = Sender(node, settings, account, folder)
        deployment = Deployment(
            chain_id=settings.chain_id,
            genesis_hash=genesis_hash(node, settings),
            contracts={"Rounds": _deployed("Rounds", node, settings, sender)},
        )
        write_durably(folder / _FILE, deployment.model_dump_json(indent=1) + "\n")
    return deployment


def connect_deployed(
    settings: ChainSettings, folder: Path, account: LocalAccount | None = None
) -> PublicChain:
    """Connect to the contracts that ``deployment.json`` in `folder` names, checking them first."""
    deployment = read_deployment(folder)
    if deployment is None:
        raise ContractMissingError(f"nothing was deployed from {folder}: run `foedus deploy`")
    check_deployment(connect_node(settings), settings, deployment)
    return PublicChain.connect(settings, deployment.rounds_address, account, folder)


def genesis_hash(node: Web3, settings: ChainSettings) -> str:
    """Hash of the chain's first block, ``0x`` and hexadecimal: it names one life of a chain."""
    try:
        return "0x" + bytes(node.eth.get_block(0)["hash"]).hex()
    except requests.RequestException as error:
        raise unreachable(settings, error) from error


def _deployed(
    contract: str, node: Web3, settings: ChainSettings, sender: Sender
) -> DeployedContract:
    code = decode_hex(load(contract).bytecode)
    receipt = sender.send(f"deployment of {contract}", {"data": code})
    if receipt.contract_address is None:
        raise ContractMissingError(f"the deployment of {contract} created no contract")
    return DeployedContract(
        address=receipt.contract_address,
        transaction_hash="0x" + receipt.hash.hex(),
        block_number=receipt.block_number,
        gas_used=receipt.gas_used,
        code_hash="0x" + check_code(node, settings, receipt.contract_address).hex(),
    )
