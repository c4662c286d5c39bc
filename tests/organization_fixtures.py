"""The organization `shop` on the tiny model, and a coordinator; use it as a pytest plugin."""

from pathlib import Path

import pytest

from blockchain.canonical import hash_arrays
from blockchain.public_chain import PublicChain
from strategies.organization_key import SIGNING, key_folder
from strategies.settings import RunSettings
from tests.organization_cases import Coordinator, tiny_settings, write_reviews
from tests.signing_cases import account_of
from tests.tiny_model import build_tiny_model
from tests.travelling_chain import store_key


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, chain_folder: Path) -> RunSettings:
    """Settings of a run whose only organization has reviews in a file."""
    folder = tmp_path_factory.mktemp("organization")
    keys = key_folder(chain_folder.parent, "shop")
    if not keys.exists():
        # The same key as the registry's, whoever opens it: the home's ledger has one operator.
        store_key(keys, SIGNING, account_of("shop").key)
    model, data = build_tiny_model(folder / "model"), write_reviews(folder / "shop.jsonl")
    return tiny_settings(chain_folder.parent, model, data)


@pytest.fixture
def coordinator(settings: RunSettings, chain: PublicChain) -> Coordinator:
    """A coordinator whose first round is open."""
    coordinator = Coordinator(settings, chain)
    chain.open_round(coordinator.task, 1, hash_arrays(coordinator.adapter))
    return coordinator
