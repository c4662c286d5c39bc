"""One organization where others, or it itself, asked to forget: plans, receipts, its own copies."""

from collections.abc import Collection
from typing import Any, Final

from flwr.app import ConfigRecord, RecordDict

from blockchain.canonical import canonical_json
from blockchain.durable_file import write_durably
from blockchain.merkle import organization_id
from blockchain.private import data_sets
from blockchain.private.drafts import Draft
from blockchain.private.ledger import Ledger
from blockchain.private.record_types import TrainingRun, UnlearningEvidence, UnlearningRequest
from client_app.acting import ActingOrganization
from client_app.affected_rounds import AffectedRoundsError, affected_rounds, training_of
from client_app.own_data import load_own_data
from client_app.own_ledger import OwnLedger
from client_app.own_record import OwnRecord
from client_app.own_request import request_record
from client_app.own_requests import known_tasks
from client_app.receipt_check import check_receipt
from client_app.request import CoordinatorError, check_terms
from strategies import protocol
from strategies.home import cache_folder, organization_folder
from strategies.lineage import Lineage
from strategies.protocol import ProtocolError
from unlearning.receipt import Receipt, ReceiptError, read_receipt
from unlearning.replay_plan import Method, ReplayPlan, SignedPlan

_PURPOSE: Final = "to carry out a request to forget"

#: What a label is called in the private ledger.
_LABELS: Final = {
    "EXACT_ISOLATED": "EXACT_ISOLATED",
    "EXACT_REPLAY": "EXACT_REPLAY",
    "EMPIRICAL": "EMPIRICAL",
    "NOTHING_TO_FORGET": "NO_OP",
}


class Forgetting(ActingOrganization):
    """One organization where it, or another one, asked to forget."""

    # What the coordinator can ask for

    def plan(self, content: RecordDict) -> RecordDict:
        """Say, of each of our requests, which rounds of a run had a part in the data.

        Returns
        -------
        RecordDict
            Signed plans, and a reason for each request of which there is none.

        Raises
        ------
        ProtocolError, CoordinatorError
            If the message is malformed, or the run's terms on chain are others.
        """
        header = _header(content)
        task, run = protocol.digest(header, "task"), protocol.text(header, "run")
        check_terms(self._chain, task, run, self._agreed)
        rounds = protocol.integer(header, "rounds")
        plans: list[Any] = []
        refused: dict[str, str] = {}
        with OwnLedger(self._settings, self.name, self._account, self._chain) as own:
            for identifier in _ids(header, "requests"):
                try:
                    signed = self._planned(own, identifier, task, rounds)
                except (AffectedRoundsError, CoordinatorError) as error:
                    refused[identifier.hex()] = str(error)
                else:
                    plans.append(signed.to_json())
        answer = {"plans": canonical_json(plans), "refused": canonical_json(refused)}
        return RecordDict({protocol.HEADER: protocol.header_record(answer)})

    def forgotten(self, content: RecordDict) -> RecordDict:
        """Take a receipt: delete what we keep of the rounds that were replaced, and note it.

        Returns
        -------
        RecordDict
            How many files of ours were deleted.

        Raises
        ------
        ProtocolError, CoordinatorError
            If the receipt is malformed, or the chain does not bear it out: then nothing is deleted.
        """
        header = _header(content)
        receipt = _read(protocol.data(header, "receipt"))
        try:
            check_receipt(receipt, self._chain)
        except ReceiptError as error:
            raise CoordinatorError(f"the receipt does not hold: {error}") from error
        deleted = self._purge(receipt)
        folder = organization_folder(self._settings.home_path, self.name) / "receipts"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{receipt.evidence.request.id}.json"
        if receipt.evidence.request.organization == self.name:
            with OwnLedger(self._settings, self.name, self._account, self._chain) as own:
                _note(own.ledger, receipt, set(self._related(receipt)))
        write_durably(path, receipt.to_bytes())
        return RecordDict({protocol.HEADER: protocol.header_record({"deleted": deleted})})

    # Parts

    def _planned(self, own: OwnLedger, identifier: bytes, task: bytes, rounds: int) -> SignedPlan:
        ledger = own.ledger
        asked = request_record(ledger, identifier)
        if asked is None:
            raise CoordinatorError("it is not in our ledger: we did not ask for it")
        if asked.scope == "organization":
            found = tuple(sorted(training_of(ledger, self._settings.kept_rounds, task)))
            return self._signed(identifier, task, found, asked.method)
        names = {
            entry.position: entry.id
            for entry in data_sets.open_entries(ledger, _PURPOSE)
            if entry.position in asked.positions
        }
        cache = cache_folder(self._settings.home_path)
        training = load_own_data(self._settings, self.name, cache).train
        found = affected_rounds(
            ledger,
            self._settings,
            self.name,
            task,
            rounds,
            allowed=own.allowed(training),
            forgotten=names,
            leaves=asked.positions,
        )
        return self._signed(identifier, task, found, asked.method)

    def _signed(
        self, identifier: bytes, task: bytes, rounds: tuple[int, ...], method: Method
    ) -> SignedPlan:
        plan = ReplayPlan(identifier, task, organization_id(self.name), rounds, method)
        return SignedPlan.of(plan, self._account, self._chain.unlearning_domain)

    def _purge(self, receipt: Receipt) -> int:
        """Delete our own updates and salts of every round that was replaced.

        Where it was unlearned by training, of every round that held the data, and of those in which
        it was unlearned.
        """
        kept = Lineage.parse(receipt.evidence.lineage)
        if not kept.spans:
            return 0
        label = receipt.evidence.label
        if label == "EXACT_ISOLATED" and receipt.evidence.request.organization != self.name:
            # Ours hold nothing of the other's data, and our own adapter is made of them.
            return 0
        again = label == "EXACT_REPLAY"
        from_round = kept.after + 1 if again else min(receipt.evidence.rounds)
        folder = organization_folder(self._settings.home_path, self.name)
        now, deleted = bytes.fromhex(receipt.evidence.after.task), 0
        for task in self._related(receipt):
            record = OwnRecord(folder, task)
            first, last = max(1, from_round - record.kept_rounds().after), None
            if task == now:
                first, last = 1, self._settings.first_rounds.last_unlearning
            deleted += len(record.purge(first, last))
        return deleted

    def _related(self, receipt: Receipt) -> list[bytes]:
        """Return the tasks of ours that go on from the same first one as the receipt's."""
        kept = Lineage.parse(receipt.evidence.lineage).spans
        after = bytes.fromhex(receipt.evidence.after.task)
        folder = organization_folder(self._settings.home_path, self.name)
        root = kept[0].task if kept else _root(OwnRecord(folder, after), after)
        tasks = known_tasks(self._settings.home_path, self.name)
        return [task for task in tasks if _root(OwnRecord(folder, task), task) == root]


def _root(record: OwnRecord, task: bytes) -> bytes:
    """Return the first task that a task goes on from; itself where it begins by itself."""
    spans = record.kept_rounds().spans
    return spans[0].task if spans else task


def _note(ledger: Ledger, receipt: Receipt, tasks: Collection[bytes]) -> None:
    """Write what was done about our request, once, and erase what opens the records' entries.

    Parameters
    ----------
    ledger : Ledger
        Ours.
    receipt : Receipt
        What was done.
    tasks : collection of bytes
        The runs that replaced rounds of one another, and of which the request is one's.
    """
    evidence = receipt.evidence
    identifier = evidence.request.id
    numbers = sorted(ledger.payloads_left(UnlearningEvidence.record_type))
    # One that waits for an endorsement counts: it was written.
    noted = {
        opened.payload.request
        for opened in ledger.read_all(numbers, _PURPOSE)
        if isinstance(opened.payload, UnlearningEvidence)
    }
    if identifier in noted:
        return
    payload = UnlearningEvidence(
        request=identifier,
        label=_LABELS[evidence.label],  # type: ignore[arg-type]
        figures={
            f"{one.organization}-{one.name}-{when}": value
            for one in evidence.metrics
            for when, value in (("before", one.before), ("after", one.after))
            if value is not None
        },
        artifacts={
            "adapter-before": evidence.before.adapter,
            "adapter-after": evidence.after.adapter,
            "evidence": evidence.hash().hex(),
        },
    )
    ledger.append(Draft(payload=payload))
    asked = request_record(ledger, bytes.fromhex(identifier))
    gone = set() if asked is None else set(asked.positions)
    for tombstone, details in data_sets.tombstones(ledger, _PURPOSE):
        if details.request == identifier:
            gone.update(tombstone.positions)
    gone -= _learned_elsewhere(ledger, tasks)
    gone -= _asked_besides(ledger, {*noted, identifier})
    if gone:
        ledger.erase("unlearning", positions=sorted(gone))


def _learned_elsewhere(ledger: Ledger, tasks: Collection[bytes]) -> set[int]:
    """Return the leaves that other tasks were trained on: about those one may still ask."""
    found = set[int]()
    numbers = sorted(ledger.payloads_left(TrainingRun.record_type))
    for opened in ledger.read_all(numbers, _PURPOSE):
        run = opened.payload
        if isinstance(run, TrainingRun) and bytes.fromhex(run.task) not in tasks:
            found.update(run.drawn)
    return found


def _asked_besides(ledger: Ledger, done: Collection[str]) -> set[int]:
    """Return the leaves that a request is about of which nothing has come yet."""
    found = set[int]()
    numbers = sorted(ledger.payloads_left(UnlearningRequest.record_type))
    for opened in ledger.read_all(numbers, _PURPOSE):
        asked = opened.payload
        if isinstance(asked, UnlearningRequest) and asked.request not in done:
            found.update(asked.positions)
    return found


def _header(content: RecordDict) -> ConfigRecord:
    header = content.config_records.get(protocol.HEADER)
    if header is None:
        raise ProtocolError("a message without a header")
    return header


def _ids(header: ConfigRecord, key: str) -> list[bytes]:
    value: Any = header.get(key)
    if not isinstance(value, list) or not all(
        isinstance(one, bytes) and len(one) == 32 for one in value
    ):
        raise ProtocolError(f"{key}: expected a list of 32-byte strings")
    return value


def _read(content: bytes) -> Receipt:
    try:
        return read_receipt(content)
    except ReceiptError as error:
        raise ProtocolError(f"receipt: {error}") from error
