"""What an organization saw of the chain: noted at every message, held against it at the next."""

import json

import pytest

from client_app.app import OrganizationError
from client_app.request import CoordinatorError
from strategies import protocol
from strategies.witnessed_blocks import witness, witnessed_file
from tests.test_client_app import ask, context

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("flower_task")]
pytest_plugins = ["tests.chain_fixtures", "tests.organization_fixtures"]


def test_every_message_leaves_the_block_it_was_answered_at(settings, coordinator, chain):
    path = witnessed_file(chain, settings.home_path, "shop")
    # What the organization itself puts on the chain, in answering, comes after.
    head = chain.node.eth.block_number
    ask(protocol.TRAIN, coordinator.message(), context(settings))
    noted = json.loads(path.read_text().splitlines()[-1])
    assert noted["hash"] == "0x" + bytes(chain.node.eth.get_block(noted["height"])["hash"]).hex()
    assert noted["height"] == head
    assert witness(chain, settings.home_path, "shop") == []


def test_an_organization_does_not_answer_on_a_chain_whose_history_was_rewritten(
    settings, coordinator, chain
):
    path = witnessed_file(chain, settings.home_path, "shop")
    witness(chain, settings.home_path, "shop")
    original = path.read_text()
    seen = json.loads(original.splitlines()[-1])
    path.write_text(original + json.dumps({**seen, "hash": "0x" + "ab" * 32}) + "\n")
    try:
        with pytest.raises(OrganizationError, match="has left the chain") as caught:
            ask(protocol.TRAIN, coordinator.message(), context(settings))
        assert CoordinatorError.__name__ in str(caught.value)
        # Nothing newer is noted over it: it stays what there is to show.
        assert [block.hash for block in witness(chain, settings.home_path, "shop")] == [
            "0x" + "ab" * 32
        ]
    finally:
        path.write_text(original)
