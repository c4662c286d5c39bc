"""The organization: the same bits every time, and nothing done that chain or record contradict."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from blockchain import merkle
from blockchain.canonical import hash_arrays
from blockchain.chain_records import Seal
from blockchain.errors import ChainError
from blockchain.merkle import Leaf
from blockchain.model_update import receipt_digest
from blockchain.typed_data import check_signer, sign_digest
from client_app.organization import Organization
from client_app.own_record import OwnRecord
from client_app.request import CoordinatorError
from llm.factors import A_SUFFIX, B_SUFFIX
from strategies import protocol
from strategies.aggregation import Contribution
from strategies.home import organization_folder
from strategies.protocol import ProtocolError, RoundReceipt
from strategies.run_archive import ArchiveError
from strategies.signed_update import Opening
from tests.organization_cases import Coordinator
from tests.signing_cases import account_of

pytestmark = pytest.mark.real
pytest_plugins = ["tests.chain_fixtures", "tests.organization_fixtures"]

OTHER = bytes(31) + b"\x01"


@pytest.fixture(scope="module")
def sealed(settings, chain, chain_account):
    """A coordinator with one sealed round, the organization's reply in it, and its receipt."""
    coordinator = Coordinator(settings, chain)
    chain.open_round(coordinator.task, 1, hash_arrays(coordinator.adapter))
    reply = coordinator.organization().train(coordinator.message())
    arrays = {name: array.numpy() for name, array in reply[protocol.UPDATE].items()}
    examples = reply[protocol.HEADER]["num-examples"]
    aggregate = coordinator.rule.aggregate(
        coordinator.state, 1, [Contribution("shop", examples, arrays)]
    )
    coordinator.state = aggregate.state
    digest = OwnRecord(own_folder(settings), coordinator.task).reply_in(1).digest
    leaves = [Leaf(OTHER, 0, 0), Leaf(digest, 1, 0)]
    adapter = hash_arrays(coordinator.adapter)
    chain.seal(coordinator.task, 1, Seal(merkle.root(leaves), 2, adapter, OTHER))
    chain.open_round(coordinator.task, 2, adapter)
    word = sign_digest(receipt_digest(digest, chain.domain), chain_account)
    receipt = RoundReceipt(1, 1, 0, digest, tuple(merkle.proof(leaves, 1)), "ab" * 32, word)
    return coordinator, receipt


def own_folder(settings):
    return organization_folder(settings.home_path, "shop")


def bits(reply):
    return {name: array.data for name, array in reply[protocol.UPDATE].items()}


def forget_replies(coordinator, settings):
    """Let the organization train anew: it would otherwise say again what it said."""
    shutil.rmtree(own_folder(settings) / "tasks" / coordinator.task.hex())


def test_the_same_message_gives_the_same_update_bit_for_bit(coordinator, settings):
    first = coordinator.organization().train(coordinator.message())
    # Something else happens in the process between.
    np.random.default_rng().normal(size=9)
    forget_replies(coordinator, settings)
    coordinator.organization().train(coordinator.message())
    forget_replies(coordinator, settings)
    again = coordinator.organization().train(coordinator.message())
    assert bits(first) == bits(again)
    header, opening = first[protocol.HEADER], first[protocol.OPENING]
    arrays = {name: array.numpy() for name, array in first[protocol.UPDATE].items()}
    assert opening["update-hash"] == hash_arrays(arrays)
    assert (header["organization"], header["round"], header["num-examples"]) == ("shop", 1, 16)
    assert {n: a.shape for n, a in arrays.items()} == coordinator.rule.expected_shapes(1, 4)
    assert all(array.any() for array in arrays.values())
    assert not any(name.endswith(A_SUFFIX) for name in arrays)


def test_what_is_signed_is_bound_to_round_task_and_terms_and_opened_by_what_is_sent(coordinator):
    reply = coordinator.organization().train(coordinator.message())
    header, opening = reply[protocol.HEADER], reply[protocol.OPENING]
    update = coordinator.context.update(
        "shop",
        1,
        hash_arrays(coordinator.adapter),
        committed=Opening(opening["update-hash"], opening["salt"]).commitment(16),
        num_examples=16,
        deadline=header["deadline"],
    )
    assert header["commitment"] == update.commitment
    digest = update.digest(coordinator.chain.domain)
    check_signer(digest, header["signature"], account_of("shop").address)


def test_a_retry_says_the_same_bytes_with_the_same_salt_and_signature(coordinator):
    first = coordinator.organization().train(coordinator.message())
    again = coordinator.organization().train(coordinator.message())
    assert bits(again) == bits(first)
    for record in (protocol.HEADER, protocol.OPENING, protocol.METRICS):
        assert dict(again[record]) == dict(first[record])


def test_a_round_trained_twice_is_committed_to_under_two_salts(coordinator, settings):
    first = coordinator.organization().train(coordinator.message())
    forget_replies(coordinator, settings)
    again = coordinator.organization().train(coordinator.message())
    assert first[protocol.OPENING]["update-hash"] == again[protocol.OPENING]["update-hash"]
    assert first[protocol.HEADER]["commitment"] != again[protocol.HEADER]["commitment"]


def test_a_reply_whose_payload_was_erased_or_altered_is_not_given_again(coordinator, settings):
    coordinator.organization().train(coordinator.message())
    folder = own_folder(settings) / "tasks" / coordinator.task.hex() / "openings"
    payload = folder / "round-0001.safetensors"
    altered = bytearray(payload.read_bytes())
    altered[-1] ^= 1
    payload.write_bytes(altered)
    with pytest.raises(ArchiveError, match="not the update that we signed"):
        coordinator.organization().train(coordinator.message())
    payload.unlink()
    with pytest.raises(ArchiveError, match="is missing"):
        coordinator.organization().train(coordinator.message())


def test_terms_other_than_those_on_chain_are_refused_before_any_work(coordinator, settings):
    other = settings.model_copy(update={"learning_rate": settings.learning_rate * 2})
    organization = Organization("shop", other, coordinator.chain, account_of("shop"))
    with pytest.raises(CoordinatorError, match="the task's terms on chain are"):
        organization.train(coordinator.message())
    with pytest.raises(CoordinatorError, match="the task's terms on chain are"):
        coordinator.organization().train(coordinator.message(run="another"))


_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from blockchain.public_chain import PublicChain
from client_app.organization import Organization
from strategies import protocol
from strategies.run_chain import open_reading_chain
from strategies.settings import RunSettings
import json
config, header = json.loads(sys.argv[1])
settings = RunSettings.from_run_config(config)
header = {k: bytes.fromhex(v[2:]) if str(v).startswith("0x") else v for k, v in header.items()}
from flwr.app import RecordDict
message = RecordDict({protocol.ADAPTER: protocol.array_record({}),
                      protocol.HEADER: protocol.header_record(header)})
from tests.signing_cases import account_of
shop = Organization("shop", settings, open_reading_chain(settings), account_of("shop"))
print(shop.train(message)[protocol.OPENING]["update-hash"].hex())
"""


def test_another_process_comes_to_the_same_update(coordinator, settings):
    message = coordinator.message()
    here = coordinator.organization().train(message)[protocol.OPENING]["update-hash"]
    forget_replies(coordinator, settings)
    header = {
        key: "0x" + value.hex() if isinstance(value, bytes) else value
        for key, value in message[protocol.HEADER].items()
    }
    there = subprocess.run(
        [
            sys.executable,
            "-c",
            _ANOTHER_PROCESS,
            json.dumps([coordinator.settings.to_run_config(), header]),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert there.stdout.strip() == here.hex()


def test_the_reply_is_in_the_organizations_own_record_before_it_leaves(coordinator, settings):
    reply = coordinator.organization().train(coordinator.message())
    record = OwnRecord(own_folder(settings), coordinator.task)
    assert record.last_reply_before(2).signed.update.round == 1
    kept = record.reply_in(1)
    assert kept.signed.signature == reply[protocol.HEADER]["signature"]
    assert kept.signed.update.commitment == reply[protocol.HEADER]["commitment"]
    assert kept.signed.opening.salt == reply[protocol.OPENING]["salt"]
    assert kept.digest == kept.signed.update.digest(coordinator.chain.domain)
    assert record.reply_in(2) is None


def test_without_validation_records_a_round_is_trained_all_the_same(settings, chain):
    coordinator = Coordinator(settings.model_copy(update={"validation_records": 0}), chain)
    chain.open_round(coordinator.task, 1, hash_arrays(coordinator.adapter))
    reply = coordinator.organization().train(coordinator.message())
    assert "received-loss" not in reply[protocol.METRICS]
    assert reply[protocol.METRICS]["last-loss"] > 0


def test_a_private_round_says_nothing_of_its_losses_and_can_be_made_again_to_the_same_bits(
    settings, chain
):
    private = settings.model_copy(update={"privacy_epsilon": 8.0})
    coordinator = Coordinator(private, chain)
    chain.open_round(coordinator.task, 1, hash_arrays(coordinator.adapter))
    reply = coordinator.organization().train(coordinator.message())
    metrics = reply[protocol.METRICS]
    assert "tokens" in metrics
    assert not {"first-loss", "last-loss"} & set(metrics)
    # The secret stays where it is; without it the same round is noised otherwise.
    forget_replies(coordinator, settings)
    again = coordinator.organization().train(coordinator.message())
    assert again[protocol.OPENING]["update-hash"] == reply[protocol.OPENING]["update-hash"]
    forget_replies(coordinator, settings)
    (own_folder(settings) / "keys" / "noise.key").unlink()
    other = coordinator.organization().train(coordinator.message())
    assert other[protocol.OPENING]["update-hash"] != reply[protocol.OPENING]["update-hash"]


def test_a_round_with_a_valid_receipt_is_trained_and_the_receipt_kept(sealed, settings):
    coordinator, receipt = sealed
    coordinator.organization().train(coordinator.message(2, **receipt.to_header()))
    folder = settings.home_path / "organizations" / "shop" / "tasks" / coordinator.task.hex()
    kept = json.loads((folder / "round-0001.json").read_text())
    assert kept["digest"] == receipt.digest.hex()
    assert kept["receipt"]["signature"] == receipt.signature.hex()
    assert kept["receipt"]["proof"] == [node.hex() for node in receipt.proof]
    assert kept["receipt"]["transaction"] == receipt.transaction


@pytest.mark.parametrize(
    ("forged", "said"),
    [
        ({"digest": OTHER}, "not for an update that we signed"),
        ({"round": 7}, "not for an update that we signed"),
        ({"signature": bytes(65)}, "is not the coordinator's"),
        ({"proof": (OTHER,)}, "not under the root sealed on chain"),
        ({"proof": ()}, "not under the root sealed on chain"),
        ({"index": 0}, "not under the root sealed on chain"),
        ({"verdict": 6}, "not under the root sealed on chain"),
    ],
    ids=str,
)
def test_a_forged_receipt_is_refused_before_any_work(sealed, forged, said):
    coordinator, receipt = sealed
    header = replace(receipt, **forged).to_header()
    for ask in ("train", "close"):
        number = 2 if ask == "train" else 1
        with pytest.raises(CoordinatorError, match=said):
            getattr(coordinator.organization(), ask)(coordinator.message(number, **header))


@pytest.mark.parametrize("proof", [bytes(32), [bytes(31)], ["x"], 1])
def test_a_receipt_that_is_malformed_is_refused(sealed, proof):
    coordinator, receipt = sealed
    header = {**receipt.to_header(), "receipt-proof": proof}
    with pytest.raises(ProtocolError, match="receipt-proof"):
        coordinator.organization().train(coordinator.message(2, **header))


def other_adapter(coordinator):
    """An adapter as good as any, which the chain does not know."""
    return {
        name: array + np.float32(0.25 if name.endswith(B_SUFFIX) else 0)
        for name, array in coordinator.adapter.items()
    }


def test_an_adapter_that_does_not_have_the_hash_stated_is_refused(coordinator):
    sent = {n: a for n, a in other_adapter(coordinator).items() if n.endswith(B_SUFFIX)}
    for message in (coordinator.message(sent=sent), coordinator.message(adapter_hash=OTHER)):
        with pytest.raises(CoordinatorError, match="the received adapter hashes to"):
            coordinator.organization().train(message)


def test_an_adapter_other_than_the_rounds_parent_on_chain_is_refused(coordinator):
    adapter = other_adapter(coordinator)
    sent = {name: array for name, array in adapter.items() if name.endswith(B_SUFFIX)}
    message = coordinator.message(sent=sent, adapter_hash=hash_arrays(adapter))
    with pytest.raises(CoordinatorError, match="round 1 opened on adapter"):
        coordinator.organization().train(message)


def test_a_round_that_is_not_open_on_chain_is_refused(coordinator, sealed):
    with pytest.raises(CoordinatorError, match="round 2 is none on chain, expected open"):
        coordinator.organization().train(coordinator.message(2))
    with pytest.raises(ChainError, match="RoundsUnknownTask"):
        coordinator.organization().train(coordinator.message(task=OTHER))
    with pytest.raises(CoordinatorError, match="round 1 is sealed on chain, expected open"):
        sealed[0].organization().train(sealed[0].message(1))


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ({"rank": 3}, CoordinatorError),
        ({"rank": 0}, CoordinatorError),
        ({"rank": None}, ProtocolError),
        ({"rank": "4"}, ProtocolError),
        ({"round": None}, ProtocolError),
        ({"round": -1}, ProtocolError),
        ({"task": None}, ProtocolError),
        ({"task": bytes(31)}, ProtocolError),
        ({"run": None}, ProtocolError),
        ({"run": 7}, ProtocolError),
        ({"adapter_hash": None}, ProtocolError),
        ({"adapter_hash": "00" * 16}, ProtocolError),
    ],
    ids=str,
)
def test_a_message_that_is_not_in_order_is_refused(coordinator, header, error):
    changed = {"round_number": 1, **header}
    message = coordinator.message(**changed)
    if "round" in header:
        message = coordinator.message(1, **header)
    with pytest.raises(error):
        coordinator.organization().train(message)


def test_arrays_that_were_not_agreed_are_refused(coordinator):
    name = next(name for name in coordinator.adapter if name.endswith(B_SUFFIX))
    for sent, said in (
        ({"lm_head.weight": np.ones((2, 2), np.float32)}, "was not agreed"),
        ({name: np.ones((2, 2), np.float32)}, "expected"),
        ({name: np.ones(coordinator.adapter[name].shape, np.float64)}, "expected"),
    ):
        with pytest.raises(ProtocolError, match=said):
            coordinator.organization().train(coordinator.message(sent=sent))


@pytest.mark.parametrize("missing", [protocol.ADAPTER, protocol.HEADER])
def test_a_message_without_adapter_or_header_is_refused(coordinator, missing):
    message = coordinator.message()
    del message[missing]
    with pytest.raises(ProtocolError, match="without header or adapter"):
        coordinator.organization().train(message)


def test_closing_evaluates_base_and_final_adapter_on_the_test_rows(sealed, settings):
    coordinator, receipt = sealed
    reply = coordinator.organization().close(coordinator.message(1, **receipt.to_header()))
    metrics = reply[protocol.METRICS]
    assert metrics["rows"] + metrics["test-rows"] < 60
    assert metrics["test-rows"] >= 1
    assert 0 <= metrics["base-accuracy"] <= 1
    assert metrics["final-loss"] != metrics["base-loss"]
    assert reply[protocol.HEADER]["domain"] == "shop"


def test_closing_on_an_adapter_that_was_not_sealed_is_refused(coordinator, sealed):
    with pytest.raises(CoordinatorError, match="round 1 is open on chain"):
        coordinator.organization().close(coordinator.message(1))
    closer, receipt = sealed
    adapter = other_adapter(closer)
    sent = {name: array for name, array in adapter.items() if name.endswith(B_SUFFIX)}
    message = closer.message(1, sent=sent, adapter_hash=hash_arrays(adapter), **receipt.to_header())
    with pytest.raises(CoordinatorError, match="as final"):
        closer.organization().close(message)
