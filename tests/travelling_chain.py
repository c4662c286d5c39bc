"""A real chain whose clock the tests can turn, and keystores of the accounts that they know."""

import functools
import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account import Account

from blockchain.chain_settings import ChainSettings
from blockchain.deployment import connect_deployed, deploy
from blockchain.durable_file import write_durably
from blockchain.keys import fund_from_development_account
from blockchain.public_chain import PublicChain
from tests.bare_node import bare_node
from tests.chain_samples import ask, founding_of
from tests.signing_cases import NAMES, account_of


@dataclass
class TravellingChain:
    """The contracts on a bare node, as the coordinator of the small federation sends to them."""

    settings: ChainSettings
    folder: Path
    chain: PublicChain

    def sent_by(self, name: str) -> PublicChain:
        """The contracts as an organization sends to them."""
        return self.chain.sent_by(account_of(name), self.folder)

    def travel(self, seconds: int) -> None:
        """Let time go by on the chain."""
        ask(self.settings, "evm_increaseTime", seconds)
        ask(self.settings, "evm_mine")

    def home(self, path: Path, *names: str) -> Path:
        """A home on this chain, with the keystores of those named, the coordinator's always."""
        (path / "chain").mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / "deployment.json", path / "chain")
        store_key(path / "chain" / "keys", "coordinator", account_of("coordinator").key)
        for name in names:
            store_key(path / "organizations" / name / "keys", "signing", account_of(name).key)
        return path


def store_key(folder: Path, keystore: str, key: bytes) -> None:
    """Write a keystore as `blockchain.keys` does."""
    secret, encrypted = _encrypted(key)
    write_durably(folder / f"{keystore}.passphrase", secret, 0o600)
    write_durably(folder / f"{keystore}.json", encrypted, 0o600)


@functools.cache
def _encrypted(key: bytes) -> tuple[str, str]:
    """Encrypt a key; half a second of scrypt, hence once for all homes of a test session."""
    secret = secrets.token_urlsafe(32)
    return secret, json.dumps(Account.encrypt(key, secret, iterations=2**17))


@pytest.fixture(scope="module")
def travelling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TravellingChain]:
    """One chain for a module's tests."""
    folder = tmp_path_factory.mktemp("chain")
    coordinator = account_of("coordinator")
    with bare_node(folder / "node.log") as settings:
        for name in ("coordinator", *NAMES):
            fund_from_development_account(settings, account_of(name).address, folder)
        founding = founding_of(coordinator.address, *NAMES)
        deploy(settings, coordinator, folder, lambda: founding)
        yield TravellingChain(settings, folder, connect_deployed(settings, folder, coordinator))
