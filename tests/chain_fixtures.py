"""A real Hardhat node for the tests, with a deployed contract; use it as a pytest plugin.

In a test module: ``pytest_plugins = ["tests.chain_fixtures"]``.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

from blockchain.deployment import connect_deployed, deploy
from blockchain.keys import fund_from_development_account, open_account
from blockchain.managed_node import ManagedNode
from blockchain.public_chain import PublicChain
from tests.chain_samples import founding_of, free_port
from tests.signing_cases import NAMES


@pytest.fixture(scope="session")
def chain_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagedNode]:
    """A node that runs for the whole test session."""
    node = ManagedNode(tmp_path_factory.mktemp("home"), free_port())
    node.start()
    yield node
    node.stop()


@pytest.fixture(scope="session")
def chain_folder(chain_node: ManagedNode) -> Path:
    """The folder that holds deployment, keys and locks."""
    return chain_node.folder


@pytest.fixture(scope="session")
def chain_account(chain_node: ManagedNode) -> LocalAccount:
    """The coordinator's funded account."""
    account = open_account(chain_node.folder / "keys")
    fund_from_development_account(chain_node.settings, account.address, chain_node.folder)
    return account


@pytest.fixture(scope="session")
def chain(chain_node: ManagedNode, chain_account: LocalAccount) -> PublicChain:
    """The deployed contract, connected for writing."""
    founding = founding_of(chain_account.address, *NAMES, "cinema", "microblog", "shop")
    deploy(chain_node.settings, chain_account, chain_node.folder, lambda: founding, managed=True)
    return connect_deployed(chain_node.settings, chain_node.folder, chain_account)
