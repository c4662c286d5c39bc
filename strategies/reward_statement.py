"""What an organization is told of its rewards: one line of a sealed round's table, with its proof.

Whoever gets it holds it against the public chain, keeps it, and claims with it once the round is
final; it needs nothing else of the coordinator.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from blockchain.canonical import canonical_json
from blockchain.chain_records import RoundRecord, Seal, record_digest
from blockchain.merkle import check_hash, organization_id
from blockchain.reward_tree import RewardLeaf, verify_reward
from llm.json_nesting import check_nesting
from strategies.round_outcome import RoundOutcome

#: Rounds that one message speaks of: who missed more must ask the coordinator's archive.
MOST_STATEMENTS: Final = 64

_MOST_BYTES: Final = 1 << 18


@dataclass(frozen=True)
class RewardStatement:
    """What one organization has earned, by a sealed round.

    Parameters
    ----------
    round : int
        The sealed round that says so.
    counted : int
        The last round whose scores are in it; 0 for none.
    amount : int
        All that the organization has earned in the task up to then, wei.
    manifest, root : bytes
        Hash of the round's manifest, and root of its rewards: 32 bytes each.
    total : int
        What all have earned, wei.
    proof : tuple of bytes
        Leads from the organization's leaf to the root; empty, too, where it earned nothing.
    """

    round: int
    counted: int
    amount: int
    manifest: bytes
    root: bytes
    total: int
    proof: tuple[bytes, ...]

    @classmethod
    def of(cls, outcome: RoundOutcome, seal: Seal, organization: str) -> "RewardStatement":
        """Return what a sealed round says of an organization."""
        amount = outcome.rewards.amounts.get(organization, 0)
        return cls(
            round=outcome.round,
            counted=outcome.rewards.round,
            amount=amount,
            manifest=seal.manifest_hash,
            root=seal.rewards_root,
            total=seal.rewards_total,
            proof=tuple(outcome.rewards.proof(organization)) if amount else (),
        )

    def problem(self, task: bytes, organization: str, on_chain: RoundRecord) -> str:
        """Say what is wrong with it; empty where nothing is.

        That somebody earned nothing has no proof: a coordinator can say so of one that did, which
        then finds the scores attested on chain against it (`foedus rewards show`).

        Parameters
        ----------
        task : bytes
            Id of the task, 32 bytes.
        organization : str
            Of whom it speaks.
        on_chain : RoundRecord
            The round, as the chain has it.
        """
        sealed = record_digest(self.manifest, self.root, self.total)
        if not on_chain.phase.has_result or on_chain.record != sealed:
            return f"round {self.round} was not sealed with these rewards"
        if self.amount == 0:
            return ""
        leaf = RewardLeaf(task, organization_id(organization), self.amount)
        if not verify_reward(self.root, leaf, self.proof):
            return f"{self.amount} wei are not under the rewards that round {self.round} sealed"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Lay it out, canonically encodable: wei outgrow JSON's integers and are text."""
        return {
            "round": self.round,
            "counted": self.counted,
            "amount": str(self.amount),
            "manifest": self.manifest.hex(),
            "root": self.root.hex(),
            "total": str(self.total),
            "proof": [node.hex() for node in self.proof],
        }

    @classmethod
    def from_json(cls, document: Any) -> "RewardStatement":
        """Read one back, and nothing that :meth:`to_json` would have written otherwise.

        Raises
        ------
        ValueError
            If it is another document.
        """
        try:
            statement = cls(
                round=document["round"],
                counted=document["counted"],
                amount=int(document["amount"]),
                manifest=check_hash(bytes.fromhex(document["manifest"]), "manifest"),
                root=check_hash(bytes.fromhex(document["root"]), "root"),
                total=int(document["total"]),
                proof=tuple(check_hash(bytes.fromhex(node), "proof") for node in document["proof"]),
            )
            numbers = {type(document[field]) for field in ("round", "counted")}
            faithful = numbers == {int} and statement.to_json() == document
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a statement of rewards is malformed: {error}") from error
        if not faithful or not 0 <= statement.counted < statement.round < 2**53:
            raise ValueError("a statement of rewards is not in its one form")
        if not 0 <= statement.amount <= statement.total < 2**256:
            raise ValueError(f"a statement of {statement.amount} of {statement.total} wei")
        return statement


def write_statements(statements: Sequence[RewardStatement]) -> bytes:
    """Encode the newest statements for a message."""
    return canonical_json([one.to_json() for one in statements[-MOST_STATEMENTS:]])


def read_statements(content: bytes) -> list[RewardStatement]:
    """Read statements from a message, strictly.

    Raises
    ------
    ValueError
        If they are malformed, too many, or not in the order of their rounds.
    """
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{len(content):,} bytes of rewards, expected at most {_MOST_BYTES:,}")
    text = content.decode("utf-8")
    check_nesting(text)
    documents = json.loads(text)
    if not isinstance(documents, list) or len(documents) > MOST_STATEMENTS:
        raise ValueError(f"expected a list of at most {MOST_STATEMENTS} statements of rewards")
    statements = [RewardStatement.from_json(document) for document in documents]
    rounds = [one.round for one in statements]
    if sorted(set(rounds)) != rounds:
        raise ValueError("statements of rewards are not in the order of their rounds")
    return statements
