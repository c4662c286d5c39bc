"""What an organization writes into its private ledger as it takes part, on a real chain."""

import json
import shutil

import pytest

from blockchain import merkle
from blockchain.canonical import hash_arrays
from blockchain.chain_records import Seal
from blockchain.merkle import Leaf, organization_id
from blockchain.model_update import receipt_digest
from blockchain.private import data_sets
from blockchain.private.audit import audit
from blockchain.private.errors import InvalidLedgerError, RolledBackError
from blockchain.private.ledger import Ledger
from blockchain.private.record_types import (
    DataSet,
    ReceiptVerification,
    Role,
)
from blockchain.typed_data import sign_digest
from client_app.ledger_opening import open_ledger
from client_app.ledger_view import training_ids
from client_app.own_data import load_own_data
from client_app.own_ledger import record_digest
from client_app.own_record import failed_anchor
from client_app.request import CoordinatorError
from llm.draw import draw
from llm.records import Message, Record
from strategies import protocol
from strategies.audit_ledgers import check_ledgers
from strategies.home import cache_folder, ledger_folder, organization_folder
from strategies.organization_key import officer_account
from strategies.protocol import RoundReceipt
from tests.chain_samples import refusing
from tests.organization_cases import MARKER, Coordinator, tiny_settings, write_reviews
from tests.signing_cases import account_of
from tests.tiny_model import build_tiny_model

pytestmark = pytest.mark.real
pytest_plugins = ["tests.travelling_chain"]

ACCOUNT = account_of("east")
OTHER = bytes(31) + b"\x01"


class East(Coordinator):
    """A coordinator whose one organization is called `east`."""

    def organization(self):
        from client_app.organization import Organization

        return Organization("east", self.settings, self.chain, ACCOUNT)

    def message(self, round_number=1, **header):
        return super().message(round_number, **{"organization": "east", **header})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def settings(tmp_path_factory, travelling, model):
    home = tmp_path_factory.mktemp("home")
    travelling.home(home, "east")
    data = write_reviews(home / "east.jsonl")
    url = str(travelling.settings.rpc_url)
    return tiny_settings(home, model, data, organizations="east", chain_url=url)


@pytest.fixture
def coordinator(settings, travelling):
    """A coordinator whose first round is open."""
    made = East(settings, travelling.chain)
    travelling.chain.open_round(made.task, 1, hash_arrays(made.adapter))
    return made


@pytest.fixture
def ledger(settings, travelling):
    """The organization's ledger, as it stands."""
    with open_ledger(settings.home_path, "east", ACCOUNT, travelling.chain) as opened:
        yield opened


def payloads(ledger, record_type):
    return [
        ledger.read(leaf.record, "to see what was written").payload
        for leaf in ledger.leaves(record_type)
    ]


def runs_of(ledger, coordinator):
    task = coordinator.task.hex()
    return [run for run in payloads(ledger, "training-run") if run.task == task]


def anchored(travelling):
    return travelling.chain.anchors.last(organization_id("east"))


def test_a_round_is_in_the_ledger_with_all_that_it_can_be_recomputed_from(
    coordinator, settings, travelling
):
    reply = coordinator.organization().train(coordinator.message())
    with open_ledger(settings.home_path, "east", ACCOUNT, travelling.chain) as ledger:
        [run] = runs_of(ledger, coordinator)
        entries = {entry.position: entry for entry in data_sets.open_entries(ledger, "test")}
        known = next(one for one in ledger.history.data_sets if one.record == run.data_set)
    data = load_own_data(settings, "east", cache_folder(settings.home_path))
    drawn = draw(data.train, 16, seed=settings.seed, round=1, organization="east")
    assert {entries[position].id for position in run.drawn} == {record.id for record in drawn}
    assert {entry.id: entry.digest for entry in entries.values()} == {
        record.id: record_digest(record) for record in data.train
    }
    assert known.size == len(data.train)
    assert run.update == reply[protocol.OPENING]["update-hash"].hex()
    assert run.commitment == reply[protocol.HEADER]["commitment"].hex()
    assert run.parent == hash_arrays(coordinator.adapter).hex()
    assert (run.run, run.round, run.seed) == (coordinator.run, 1, settings.seed)
    assert run.records == len(drawn)
    assert run.tokens == reply[protocol.METRICS]["tokens"]
    assert float.fromhex(run.last_loss) == reply[protocol.METRICS]["last-loss"]
    assert float.fromhex(run.configuration["learning-rate"]) == settings.learning_rate
    assert run.configuration["records-per-round"] == 16


def test_a_retry_writes_nothing_again(coordinator, ledger):
    coordinator.organization().train(coordinator.message())
    size = ledger.history.size
    coordinator.organization().train(coordinator.message())
    assert ledger.history.size == size
    assert len(runs_of(ledger, coordinator)) == 1


def test_the_training_set_is_committed_to_once_for_all_runs_on_the_same_data(coordinator, ledger):
    coordinator.organization().train(coordinator.message())
    assert len(ledger.leaves(DataSet.record_type)) == 1


def test_a_round_ends_with_the_ledger_anchored(coordinator, ledger, travelling):
    coordinator.organization().train(coordinator.message())
    stands = anchored(travelling)
    assert stands.size == ledger.history.size
    assert stands.root == ledger.history.tree.root()
    folder = organization_folder(coordinator.settings.home_path, "east")
    said = json.loads((folder / "tasks" / coordinator.task.hex() / "anchor.json").read_text())
    assert said["outcome"] == f"{stands.size} records anchored"


@pytest.mark.parametrize(("interval", "expected"), [(0, False), (1, True), (2, False)])
def test_the_longest_unanchored_stretch_is_a_setting(settings, travelling, interval, expected):
    changed = settings.model_copy(update={"anchor_interval": interval})
    coordinator = East(changed, travelling.chain)
    travelling.chain.open_round(coordinator.task, 1, hash_arrays(coordinator.adapter))
    before = anchored(travelling).size
    coordinator.organization().train(coordinator.message())
    assert (anchored(travelling).size > before) is expected


def test_a_chain_that_takes_no_anchor_does_not_keep_an_organization_from_training(
    coordinator, settings, travelling, ledger
):
    def is_sending(request):
        return request["method"] == "eth_sendRawTransaction"

    before = anchored(travelling)
    with refusing(travelling.settings, is_sending) as through:
        deaf = travelling.chain.__class__.connect(through, travelling.chain.addresses)
        organization = coordinator.organization()
        organization._chain = deaf
        assert organization.train(coordinator.message())[protocol.UPDATE]
    assert anchored(travelling) == before
    folder = organization_folder(settings.home_path, "east")
    said = json.loads((folder / "tasks" / coordinator.task.hex() / "anchor.json").read_text())
    assert "refused by the test" in said["outcome"]
    assert len(runs_of(ledger, coordinator)) == 1
    # It is told until it is made good.
    assert failed_anchor(folder, before.size) == said["outcome"]
    assert failed_anchor(folder, ledger.history.size) == ""


def sealed(coordinator, chain, *, lie=False):
    """Seal round 1 with the organization's update, or (lying) without; return the receipt."""
    organization = coordinator.organization()
    organization.train(coordinator.message())
    from client_app.own_record import OwnRecord

    folder = organization_folder(coordinator.settings.home_path, "east")
    digest = OwnRecord(folder, coordinator.task).reply_in(1).digest
    leaves = [Leaf(OTHER, 0, 0), Leaf(digest, 1, 0)]
    adapter = hash_arrays(coordinator.adapter)
    root = merkle.root([leaves[0], Leaf(OTHER, 1, 0)] if lie else leaves)
    chain.seal(coordinator.task, 1, Seal(root, 2, adapter, OTHER))
    chain.open_round(coordinator.task, 2, adapter)
    word = sign_digest(receipt_digest(digest, chain.domain), account_of("coordinator"))
    return RoundReceipt(1, 1, 0, digest, tuple(merkle.proof(leaves, 1)), "ab" * 32, word)


def receipts_of(ledger, coordinator):
    task = coordinator.task.hex()
    return [found for found in payloads(ledger, "receipt") if found.task == task]


def test_the_coordinators_receipt_is_in_the_ledger_once_with_what_came_of_checking_it(
    coordinator, travelling, ledger
):
    receipt = sealed(coordinator, travelling.chain)
    for _ in range(2):
        coordinator.organization().train(coordinator.message(2, **receipt.to_header()))
    [kept] = receipts_of(ledger, coordinator)
    assert isinstance(kept, ReceiptVerification)
    assert (kept.round, kept.index, kept.verdict, kept.included) == (1, 1, 0, True)
    assert kept.signature == receipt.signature.hex()
    assert kept.coordinator == account_of("coordinator").address
    assert bytes.fromhex(kept.block) == travelling.chain.block_hash(kept.height)


def test_a_receipt_that_leads_nowhere_is_kept_as_that_before_it_is_refused(
    coordinator, travelling, ledger
):
    receipt = sealed(coordinator, travelling.chain, lie=True)
    with pytest.raises(CoordinatorError, match="not under the root"):
        coordinator.organization().train(coordinator.message(2, **receipt.to_header()))
    [kept] = receipts_of(ledger, coordinator)
    assert kept.included is False


def test_a_forgotten_record_is_not_trained_on_again(settings, travelling, tmp_path):
    """In a ledger of its own, for what is forgotten stays so."""
    travelling.home(tmp_path, "south")
    data = write_reviews(tmp_path / "south.jsonl")
    own = settings.model_copy(
        update={"home": str(tmp_path), "data": str(data), "organizations": "south"}
    )

    class South(East):
        def organization(self):
            from client_app.organization import Organization

            return Organization("south", self.settings, self.chain, account_of("south"))

        def message(self, round_number=1, **header):
            return super().message(round_number, **{"organization": "south", **header})

    def trained():
        coordinator = South(own, travelling.chain)
        travelling.chain.open_round(coordinator.task, 1, hash_arrays(coordinator.adapter))
        coordinator.organization().train(coordinator.message())
        with opened() as ledger:
            [run] = runs_of(ledger, coordinator)
            return run, set(training_ids(ledger, 1000))

    def opened():
        return open_ledger(tmp_path, "south", account_of("south"), travelling.chain)

    before, ids = trained()
    with opened() as ledger:
        first = training_ids(ledger, len(before.drawn))
        by_id = {entry.id: entry.position for entry in data_sets.open_entries(ledger, "test")}
        # Those that rounds trained on come first.
        assert {by_id[one] for one in first} == set(before.drawn)
        data_sets.bury(ledger, first[:3], request=OTHER)
    after, left = trained()
    assert ids - left == set(first[:3])
    assert not {by_id[one] for one in first[:3]} & set(after.drawn)
    assert after.data_set > before.data_set
    # The rest of the round's draw is as it was.
    assert len(set(before.drawn) & set(after.drawn)) == len(before.drawn) - 3


def test_no_file_of_the_ledger_holds_a_word_of_a_record(coordinator, settings):
    coordinator.organization().train(coordinator.message())
    for path in ledger_folder(settings.home_path, "east").iterdir():
        assert MARKER.encode() not in path.read_bytes(), path


def test_the_officer_is_a_member_beside_the_organization(ledger, settings):
    policy = ledger.history.members
    assert policy.roles_of(ACCOUNT.address) == (Role.OPERATOR, Role.TRAINER)
    assert policy.with_role(Role.OFFICER) == [officer_account(settings.home_path, "east").address]


def test_the_audit_of_a_run_holds_the_ledgers_under_its_home_against_their_anchors(
    coordinator, settings, travelling, tmp_path
):
    coordinator.organization().train(coordinator.message())
    [check] = check_ledgers(["east", "north"], settings.home_path, travelling.chain)
    assert (check.name, check.holds) == ("ledger of east", True)
    folder = ledger_folder(settings.home_path, "east")
    copy = ledger_folder(tmp_path, "east")
    shutil.copytree(folder, copy)
    coordinator = East(coordinator.settings, travelling.chain)
    travelling.chain.open_round(coordinator.task, 1, hash_arrays(coordinator.adapter))
    coordinator.organization().train(coordinator.message())
    [check] = check_ledgers(["east"], tmp_path, travelling.chain)
    assert not check.holds
    assert "are anchored in block" in check.detail


def test_a_ledger_that_was_anchored_and_is_gone_is_not_begun_anew(
    coordinator, settings, travelling
):
    coordinator.organization().train(coordinator.message())
    folder = ledger_folder(settings.home_path, "east")
    away = folder.with_name("away")
    folder.rename(away)
    try:
        with pytest.raises(RolledBackError, match="restore it from a backup"):
            open_ledger(settings.home_path, "east", ACCOUNT, travelling.chain)
        assert not folder.exists()
    finally:
        away.rename(folder)


def test_an_older_ledger_in_its_place_is_refused_at_the_next_message(
    coordinator, settings, travelling, tmp_path
):
    coordinator.organization().train(coordinator.message())
    folder = ledger_folder(settings.home_path, "east")
    older = shutil.copytree(folder, tmp_path / "older")
    again = East(settings, travelling.chain)
    travelling.chain.open_round(again.task, 1, hash_arrays(again.adapter))
    again.organization().train(again.message())
    newer = folder.with_name("newer")
    folder.rename(newer)
    older.rename(folder)
    try:
        with pytest.raises(InvalidLedgerError, match="an older"):
            again.organization().train(again.message())
    finally:
        shutil.rmtree(folder)
        newer.rename(folder)


def test_a_rotated_signing_key_goes_on_with_the_ledger(settings, travelling, tmp_path):
    from blockchain.keys import open_account
    from client_app.key_rotation import rotate

    travelling.home(tmp_path, "north")
    own = settings.model_copy(update={"home": str(tmp_path), "organizations": "north"})
    keys = organization_folder(tmp_path, "north") / "keys"
    old = open_account(keys, "signing")
    with open_ledger(tmp_path, "north", old, travelling.chain) as ledger:
        data_sets.commit(ledger, "reviews", {"r1": OTHER})
        size = ledger.history.size
    rotate(own, travelling.chain, "north")
    new = open_account(keys, "signing")
    assert new.address != old.address
    with open_ledger(tmp_path, "north", new, travelling.chain) as ledger:
        assert ledger.history.size == size + 1
        assert [entry.id for entry in data_sets.open_entries(ledger, "test")] == ["r1"]
    audit(ledger_folder(tmp_path, "north"), new)
    with pytest.raises(Exception, match="no member"):
        Ledger(ledger_folder(tmp_path, "north"), old)


def test_a_records_digest_tells_apart_all_that_is_trained_on():
    plain = Record(id="r", prompt="a", completion="b", choices=("b", "c"), group="g")
    chat = Record(id="r", prompt=(Message("user", "a"),), completion="b")
    variants = [
        plain,
        chat,
        Record(id="s", prompt="a", completion="b", choices=("b", "c"), group="g"),
        Record(id="r", prompt="x", completion="b", choices=("b", "c"), group="g"),
        Record(id="r", prompt="a", completion="c", choices=("b", "c"), group="g"),
        Record(id="r", prompt="a", completion="b", choices=("c", "b"), group="g"),
        Record(id="r", prompt="a", completion="b", choices=("b", "c")),
        Record(id="r", prompt=(Message("system", "a"), Message("user", "a")), completion="b"),
    ]
    assert len({record_digest(one) for one in variants}) == len(variants)
    assert record_digest(plain) == record_digest(
        Record(id="r", prompt="a", completion="b", choices=("b", "c"), group="g")
    )
