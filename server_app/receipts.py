"""What follows a replay: deleting what it replaced, the attestors' word, the receipt to everybody.

Each step finds what an earlier attempt has done: a process that is killed anywhere in between is
taken up by the next run that unlearns.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from blockchain.canonical import canonical_float
from blockchain.durable_file import write_durably
from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from blockchain.typed_data import check_signer
from blockchain.unlearning_messages import Completion, RequestState
from blockchain.unlearning_requests import StoredRequest
from server_app.forgotten_figures import forgotten_figures
from server_app.ordered_grid import OrderedGrid
from server_app.replay_plans import Plan
from server_app.replay_settings import root_of, runs_with_tasks, settings_of
from server_app.roster import RosterError, find_members
from server_app.run_log import RunLog
from strategies import protocol
from strategies.lineage import Lineage
from strategies.origin import run_of_task
from strategies.purging import purge_rounds
from strategies.replay_order import ReplayOrder
from strategies.reply_errors import error_of
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import RunArchive, read_json
from strategies.settings import RunSettings
from strategies.source_hash import source_hash
from strategies.terms import terms_hash
from unlearning.receipt import (
    NO_REFERENCE,
    Asked,
    Evidence,
    Label,
    Measured,
    Place,
    Purged,
    Receipt,
    read_receipt,
)


class Receipts:
    """Receipts of the requests about one run.

    Parameters
    ----------
    archive : RunArchive
        The run that stands now: a replay that is finished, or one that nothing was to forget of.
    chain : PublicChain
        The connection, with the coordinator's account.
    grid : Grid
        Flower's connection to the nodes.
    log : RunLog
        Told of every event.
    """

    def __init__(self, archive: RunArchive, chain: PublicChain, grid: Grid, log: RunLog) -> None:
        self._archive = archive
        self._settings = settings_of(archive)
        self._chain = chain
        self._log = log
        run = archive.read_run()
        self._task = bytes.fromhex(run["task"])
        self._terms = terms_hash(run["terms"])
        origin = archive
        if self._settings.kept_rounds.replaced is not None:
            origin = run_of_task(archive.home, self._settings.kept_rounds.replaced)
        self._before = origin
        order = ReplayOrder.of(self._settings, settings_of(origin), origin.name)
        self._grid = OrderedGrid(grid, order)
        self._nodes: dict[str, int] = {}

    # What is to be done

    def complete(self) -> None:
        """Delete what a finished replay has replaced, and complete its requests, one by one."""
        plans = read_json(self._archive.folder / "plans.json")
        label = label_of(self._settings)
        purged = self._purge(
            self._settings.kept_rounds.after + 1
            if label == "EXACT_REPLAY"
            else min(min(plan["rounds"]) for plan in plans.values())
        )
        self._mark_replaced()
        for identifier, entry in sorted(plans.items()):
            stored = self._chain.unlearning.request_of(bytes.fromhex(identifier))
            if stored is None:
                self._log("request-unknown", {"request": identifier})
                continue
            plan = Plan.from_json(entry)
            self._complete(stored, self._evidence(stored, plan, label, purged))

    def bring_again(self) -> None:
        """Complete and deliver what an earlier attempt had signed and not brought to its end."""
        for path in sorted((self._archive.folder / "receipts").glob("*.json")):
            self._bring(read_receipt(path.read_bytes()))

    def nothing_to_forget(self, stored: StoredRequest, plan: Plan) -> None:
        """Complete a request about data that no round drew."""
        self._complete(stored, self._evidence(stored, plan, "NOTHING_TO_FORGET", []))

    # Parts

    def _complete(self, stored: StoredRequest, evidence: Evidence) -> None:
        """Have one request completed on the chain, and its receipt brought to everybody."""
        folder = self._archive.folder / "receipts"
        folder.mkdir(exist_ok=True)
        path = folder / f"{stored.request.id.hex()}.json"
        if path.exists():
            # Written before it was sent: what attestors signed is not asked for twice.
            receipt = read_receipt(path.read_bytes())
        else:
            vouched = self._vouched(stored, evidence)
            if vouched is None:
                return
            receipt = vouched
            write_durably(path, receipt.to_bytes())
        self._bring(receipt)

    def _bring(self, receipt: Receipt) -> None:
        """Put a receipt on the chain, if it is not there, and bring it to everybody."""
        identifier = bytes.fromhex(receipt.evidence.request.id)
        path = self._archive.folder / "receipts" / f"{identifier.hex()}.json"
        current = self._chain.unlearning.request_of(identifier)
        if current is not None and current.state is RequestState.OPEN:
            landed = self._chain.unlearning.complete(
                identifier,
                receipt.evidence.completion(receipt.first_affected),
                {
                    organization_id(name): bytes.fromhex(word)
                    for name, word in receipt.approvals.items()
                },
            )
            receipt = receipt.model_copy(update={"transaction": landed.hash.hex()})
            write_durably(path, receipt.to_bytes())
            self._log(
                "request-completed",
                {
                    "request": identifier.hex(),
                    "label": receipt.evidence.label,
                    "adapter": receipt.evidence.after.adapter,
                },
            )
        self._deliver(receipt)

    def _evidence(
        self, stored: StoredRequest, plan: Plan, label: Label, purged: list[Purged]
    ) -> Evidence:
        request, kept = stored.request, self._settings.kept_rounds
        names = {
            organization_id(name): name
            for name in [
                *self._settings.organization_names,
                *settings_of(self._before).organization_names,
            ]
        }
        after = self._place(self._archive)
        made_again = label != "NOTHING_TO_FORGET"
        day = datetime.now(UTC).date() + timedelta(days=self._settings.backup_days)
        return Evidence(
            version=1,
            request=Asked(
                id=request.id.hex(),
                task=request.task.hex(),
                organization=names[request.organization],
                scope="records" if request.scope.name == "RECORDS" else "organization",
                subject=request.subject.hex(),
                deadline=request.deadline,
            ),
            label=label,
            rounds=list(plan.rounds),
            plan=None if plan.signed is None else plan.signed.to_json(),
            before=self._place(self._before) if made_again else after,
            after=after,
            lineage=str(kept) if made_again else "",
            terms=self._terms.hex(),
            code=source_hash(),
            seed=self._settings.seed,
            metrics=self._metrics(names[request.organization]) if made_again else [],
            reference=NO_REFERENCE,
            purged=purged,
            backups_until=day.isoformat(),
        )

    def _place(self, archive: RunArchive) -> Place:
        """Return the last sealed round of a run, and its adapter."""
        last = archive.last_prepared_round() or 0
        while last and not archive.is_sealed(last):
            last -= 1
        adapter = RoundOutcome.from_manifest(archive.manifest(last)).adapter
        task = str(archive.read_run()["task"])
        return Place(run=archive.name, task=task, round=last, adapter=adapter.hex())

    def _metrics(self, organization: str) -> list[Measured]:
        """Return accuracy and loss on every organization's test rows, before and after.

        Where it was unlearned by training, also what the organization measured on the data itself.
        """
        summaries = [
            (archive.read_summary() or {"organizations": {}})["organizations"]
            for archive in (self._before, self._archive)
        ]
        measured = []
        for name, entry in sorted(summaries[1].items()):
            before = summaries[0].get(name, {})
            measured += [
                Measured(
                    organization=name,
                    name=figure,
                    rows=int(entry.get("test_rows", 0)),
                    before=_exact(before.get(figure)),
                    after=_exact(entry.get(figure)),
                )
                for figure in ("accuracy", "loss")
            ]
        if self._settings.unlearners:
            path = self._archive.folder / "summary.json"
            measured += forgotten_figures(organization, read_json(path)["forgetting"])
        return measured

    def _family(self) -> Iterator[tuple[RunArchive, RunSettings]]:
        """Yield all other runs that go on from the same first task, oldest first."""
        root = root_of(self._settings, self._task)
        for archive, settings, task in runs_with_tasks(self._archive.home):
            if task != self._task and root_of(settings, task) == root:
                yield archive, settings

    def _mark_replaced(self) -> None:
        """Say in every other run of the family that it stands no longer.

        One that goes back before what its predecessor kept takes the place of that one as well.
        """
        for archive, _ in self._family():
            run = archive.read_run()
            if archive.name == self._before.name or run.get("status") != "replaced":
                archive.write_run({**run, "status": "replaced", "by": self._archive.name})

    def _purge(self, first: int) -> list[Purged]:
        """Delete, of every run that a replay has replaced, the rounds from one on."""
        done = []
        for archive, settings in self._family():
            # The state that a run starts from is that of the last round it kept.
            number = max(0, first - settings.kept_rounds.after)
            done.append(self._purged(archive, number))
        if self._settings.unlearners:
            # What it began from held the data, and the updates that unlearned it say what it was.
            last = self._settings.first_rounds.last_unlearning
            done.append(self._purged(self._archive, 0, last))
        return done

    def _purged(self, archive: RunArchive, number: int, last: int | None = None) -> Purged:
        purge = purge_rounds(archive, number, self._settings.request_ids, last_round=last)
        return Purged(
            run=archive.name,
            first_round=number,
            files=len(purge.files),
            bytes=sum(file.size for file in purge.files),
        )

    def _vouched(self, stored: StoredRequest, evidence: Evidence) -> Receipt | None:
        """Ask the attestors to sign; ``None`` where too few do, which is said."""
        first = 0
        if evidence.rounds:
            kept = Lineage.parse(evidence.lineage)
            first = kept.own_number(stored.request.task, min(evidence.rounds))
        completion, needed = evidence.completion(first), self._chain.members.attestor_threshold()
        content = evidence.model_dump_json().encode()
        approvals: dict[str, str] = {}
        for name in self._settings.attestor_names:
            answer = self._asked(name, protocol.VOUCH, {"evidence": content})
            word = self._word(name, stored, completion, answer)
            if word is not None:
                approvals[name] = word.hex()
        if len(approvals) < needed:
            self._log(
                "request-unattested",
                {"request": stored.request.id.hex(), "signed": sorted(approvals), "needed": needed},
            )
            return None
        return Receipt(evidence=evidence, first_affected=first, approvals=approvals, transaction="")

    def _word(
        self, name: str, stored: StoredRequest, completion: Completion, answer: RecordDict | str
    ) -> bytes | None:
        """Return an attestor's signature, once it was held against its key."""
        identity, reason = organization_id(name), answer if isinstance(answer, str) else ""
        if not isinstance(answer, str):
            try:
                header = answer.config_records.get(protocol.HEADER)
                signature = protocol.signature({} if header is None else header, "signature")
                domain = self._chain.unlearning_domain
                digest = completion.digest(domain, stored.request.id, identity)
                check_signer(digest, signature, self._chain.members.key_of(identity))
            except ValueError as error:
                reason = str(error)
            else:
                return signature
        self._log("attestor-refused", {"organization": name, "reason": reason})
        return None

    def _deliver(self, receipt: Receipt) -> None:
        """Bring a receipt to every organization that can be reached; the others get it later."""
        names = {*self._settings.organization_names, receipt.evidence.request.organization}
        told = self._archive.folder / "receipts" / f"{receipt.evidence.request.id}.told"
        known = set(told.read_text().split()) if told.exists() else set()
        for name in sorted(names - known):
            answer = self._asked(name, protocol.FORGOTTEN, {"receipt": receipt.to_bytes()})
            if isinstance(answer, str):
                self._log("receipt-undelivered", {"organization": name, "error": answer})
                continue
            known.add(name)
            write_durably(told, " ".join(sorted(known)).encode())
            self._log("receipt-delivered", {"organization": name})

    def _asked(self, name: str, kind: str, entries: Mapping[str, Any]) -> RecordDict | str:
        """Send one message to one organization, and return its answer or why there is none."""
        if name not in self._nodes:
            try:
                self._nodes |= find_members(
                    self._grid, [name], self._settings, self._chain, timeout=30.0
                )
            except RosterError as error:
                return str(error)
        header = {"organization": name, "task": self._task, "run": self._archive.name, **entries}
        message = Message(
            content=RecordDict({protocol.HEADER: protocol.header_record(header)}),
            message_type=kind,
            dst_node_id=self._nodes[name],
            group_id="receipts",
            ttl=self._settings.round_deadline,
        )
        replies = list(
            self._grid.send_and_receive([message], timeout=self._settings.round_deadline)
        )
        if not replies or replies[0].has_error():
            return error_of(replies[0] if replies else None)
        return replies[0].content


def label_of(settings: RunSettings) -> Label:
    """Return what a run that takes another one's place can be said to guarantee."""
    if settings.unlearners:
        return "EMPIRICAL"
    return "EXACT_ISOLATED" if settings.leavers else "EXACT_REPLAY"


def _exact(value: Any) -> str | None:
    return canonical_float(float(value)) if isinstance(value, int | float) else None
