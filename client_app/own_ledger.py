"""The organization's private ledger in its day's work: what it writes in a round."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Protocol, Self

from eth_account.signers.local import LocalAccount

from blockchain.canonical import canonical_float, hash_json
from blockchain.errors import ChainError
from blockchain.private import data_sets
from blockchain.private.anchoring import OutboxRow, anchor
from blockchain.private.data_sets import TrainingSet
from blockchain.private.drafts import Draft
from blockchain.private.record_types import (
    ReceiptVerification,
    TrainingRun,
)
from blockchain.public_chain import PublicChain
from client_app.ledger_opening import open_ledger
from llm.records import Record
from strategies.protocol import RoundReceipt
from strategies.settings import RunSettings
from strategies.signed_update import SignedUpdate
from strategies.terms import agreed_settings


class Trained(Protocol):
    """What the ledger notes of a round's training."""

    @property
    def records(self) -> int:
        """Records trained on."""

    @property
    def tokens(self) -> int:
        """Tokens processed."""

    @property
    def steps(self) -> int:
        """Optimizer steps."""

    @property
    def seconds(self) -> float:
        """Wall time."""

    @property
    def first_loss(self) -> float:
        """Loss of the first step, nats."""

    @property
    def last_loss(self) -> float:
        """Loss of the last step, nats."""


@dataclass(frozen=True)
class Drawn:
    """What a round trained on.

    Parameters
    ----------
    training_set : TrainingSet
        The set drawn from, as committed to.
    records : sequence of Record
        What was drawn.
    """

    training_set: TrainingSet
    records: Sequence[Record]


class OwnLedger:
    """One organization's ledger, open for one message.

    Parameters
    ----------
    settings : RunSettings
        Name the home.
    organization : str
        Whose.
    account : LocalAccount
        Its signing key.
    chain : PublicChain
        A connection that can read.

    Raises
    ------
    LedgerError
        The ledger cannot be opened, does not hold, or is older than what was anchored of it.
    """

    def __init__(
        self,
        settings: RunSettings,
        organization: str,
        account: LocalAccount,
        chain: PublicChain,
    ) -> None:
        self._settings = settings
        self._chain = chain
        self.ledger = open_ledger(settings.home_path, organization, account, chain)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ledger.close()

    def allowed(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that were not forgotten: no others are trained on."""
        barred = data_sets.barred(self.ledger, [record.id for record in records])
        return [record for record in records if record.id not in barred]

    def committed(self, records: Sequence[Record]) -> TrainingSet:
        """Commit to the training set, if it is another than before."""
        return data_sets.commit(
            self.ledger,
            self._settings.data,
            {record.id: record_digest(record) for record in records},
        )

    def note_training(self, signed: SignedUpdate, run: str, drawn: Drawn, result: Trained) -> int:
        """Write what was trained in a round, before anybody hears of it.

        Returns
        -------
        int
            Number of the record.
        """
        update = signed.update
        training = TrainingRun(
            task=update.task.hex(),
            run=run,
            round=update.round,
            configuration=agreed_settings(self._settings),
            seed=self._settings.seed,
            data_set=drawn.training_set.record,
            drawn=tuple(sorted(drawn.training_set.positions[one.id] for one in drawn.records)),
            parent=update.parent_adapter.hex(),
            update=signed.opening.update_hash.hex(),
            commitment=update.commitment.hex(),
            records=result.records,
            tokens=result.tokens,
            steps=result.steps,
            seconds=canonical_float(result.seconds),
            first_loss=canonical_float(result.first_loss),
            last_loss=canonical_float(result.last_loss),
        )
        [number] = self.ledger.append(Draft(payload=training))
        return number

    def note_receipt(
        self, receipt: RoundReceipt, task: bytes, coordinator: str, *, included: bool
    ) -> int:
        """Write the coordinator's receipt, and what came of checking it.

        Returns
        -------
        int
            Number of the record.
        """
        height = self._chain.height()
        seen = self._chain.block_hash(height)
        if seen is None:
            raise ChainError(f"block {height} left the chain while it was looked at: try again")
        verified = ReceiptVerification(
            task=task.hex(),
            round=receipt.round,
            index=receipt.index,
            verdict=receipt.verdict,
            digest=receipt.digest.hex(),
            proof=tuple(node.hex() for node in receipt.proof),
            transaction=receipt.transaction,
            coordinator=coordinator,
            signature=receipt.signature.hex(),
            included=included,
            chain_id=self._settings.chain_id,
            height=height,
            block=seen.hex(),
        )
        [number] = self.ledger.append(Draft(payload=verified))
        return number

    def anchor(self, paying: PublicChain) -> OutboxRow | None:
        """Anchor the ledger as it is now (`blockchain.private.anchoring.anchor`)."""
        return anchor(self.ledger, paying.anchors)


def record_digest(record: Record) -> bytes:
    """Hash what a record holds, 32 bytes."""
    return hash_json(asdict(record) | {"choices": list(record.choices), "prompt": _prompt(record)})


def _prompt(record: Record) -> str | list[dict[str, str]]:
    if isinstance(record.prompt, str):
        return record.prompt
    return [{"role": message.role, "content": message.content} for message in record.prompt]
