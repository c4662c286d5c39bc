"""What a round came to: the manifest that its seal commits to, and the leaves under its root."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from blockchain.canonical import hash_arrays, hash_json
from blockchain.chain_records import Seal
from blockchain.merkle import Leaf, check_hash, organization_id, root
from blockchain.model_update import ModelUpdate
from llm.factors import Arrays
from strategies.aggregation import AggregationState
from strategies.replies import CheckedReply, Verdict
from strategies.rewards import RewardTable
from strategies.signed_update import TaskContext

MANIFEST_VERSION = 2


@dataclass(frozen=True)
class Entry:
    """One signed update's line in a manifest.

    Parameters
    ----------
    organization : str
        Its name; of one that does not take part and wrote to the chain, ``0x`` and its id.
    verdict : int
        Code of :class:`strategies.replies.Verdict`.
    digest : bytes
        What the organization signed, 32 bytes.
    commitment : bytes
        Salted commitment to the update, 32 bytes, or
        :data:`blockchain.model_update.DECLINED`; zero for one known from the chain alone.
    num_examples : int
        Records used.
    deadline : int
        As signed, seconds since the epoch.
    signature : bytes
        The organization's, 65 bytes; empty for an update known from the chain alone, which has
        checked it.
    weight : float
        Its share in the aggregate; 0 unless accepted.
    """

    organization: str
    verdict: int
    digest: bytes
    commitment: bytes
    num_examples: int
    deadline: int
    signature: bytes
    weight: float

    @classmethod
    def of_reply(cls, reply: CheckedReply, context: TaskContext, weight: float) -> "Entry":
        """Return the entry of a reply."""
        update = reply.signed.update
        return cls(
            organization=reply.organization,
            verdict=int(reply.verdict),
            digest=update.digest(context.domain),
            commitment=update.commitment,
            num_examples=update.num_examples,
            deadline=update.deadline,
            signature=reply.signed.signature,
            weight=weight,
        )

    @classmethod
    def unavailable(cls, organization: str, digest: bytes) -> "Entry":
        """Return the entry of an update that stands on the chain and whose payload never came."""
        verdict = int(Verdict.PAYLOAD_UNAVAILABLE)
        return cls(organization, verdict, digest, bytes(32), 0, 0, b"", 0.0)

    @property
    def organization_id(self) -> bytes:
        """The organization's id on the chain, 32 bytes."""
        # No name is as long as an id.
        if len(self.organization) == 66:
            return bytes.fromhex(self.organization.removeprefix("0x"))
        return organization_id(self.organization)

    def update(self, context: TaskContext, round_number: int, parent: bytes) -> ModelUpdate:
        """Return what the organization signed, as the entry says it."""
        return context.update(
            self.organization,
            round_number,
            parent,
            committed=self.commitment,
            num_examples=self.num_examples,
            deadline=self.deadline,
        )

    def to_json(self) -> dict[str, Any]:
        """Lay the entry out for the manifest; a float's hexadecimal form is exact."""
        return {
            "organization": self.organization,
            "verdict": self.verdict,
            "digest": self.digest.hex(),
            "commitment": self.commitment.hex(),
            "examples": self.num_examples,
            "deadline": self.deadline,
            "signature": self.signature.hex(),
            "weight": self.weight.hex(),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Entry":
        """Read an entry back."""
        weight = float.fromhex(entry["weight"])
        if not 0 <= weight <= 1:
            raise ValueError(f"weight {weight}, expected 0 to 1")
        return cls(
            organization=str(entry["organization"]),
            verdict=int(Verdict(entry["verdict"])),
            digest=check_hash(bytes.fromhex(entry["digest"]), "digest"),
            commitment=check_hash(bytes.fromhex(entry["commitment"]), "commitment"),
            num_examples=int(entry["examples"]),
            deadline=int(entry["deadline"]),
            signature=bytes.fromhex(entry["signature"]),
            weight=weight,
        )


@dataclass(frozen=True)
class RoundOutcome:
    """A finished round, before its seal.

    Parameters
    ----------
    round : int
        The round.
    parent_round : int
        The round it builds on; 0 for the state that the run starts from.
    rule : str
        Name of the aggregation rule.
    parent, adapter : bytes
        Canonical hashes of the global adapter before and after.
    state : bytes
        Canonical hash of the rule's state after the round.
    entries : tuple of Entry
        One for each signed update, sorted by organization and digest; an entry's position is its
        leaf's.
    absent : mapping of str to str
        Who did not reply, and why: ``late``, ``failed``, or ``unsigned`` for a reply that its
        sender did not sign for this round.
    rewards : RewardTable
        What each organization has earned in the rounds before this one.
    files : mapping of str to str
        SHA-256 of every file of adapter and state as stored, hexadecimal by relative path.
    """

    round: int
    parent_round: int
    rule: str
    parent: bytes
    adapter: bytes
    state: bytes
    entries: tuple[Entry, ...]
    absent: Mapping[str, str]
    rewards: RewardTable
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        *,
        round_number: int,
        parent_round: int,
        rule: str,
        parent: bytes,
        state: AggregationState,
        adapter: Arrays,
        rewards: RewardTable,
        entries: Iterable[Entry],
        absent: Mapping[str, str],
    ) -> "RoundOutcome":
        """Put together what a round came to."""
        return cls(
            round=round_number,
            parent_round=parent_round,
            rule=rule,
            parent=parent,
            adapter=hash_arrays(adapter),
            state=hash_arrays(state.to_arrays()),
            entries=tuple(sorted(entries, key=lambda entry: (entry.organization, entry.digest))),
            absent=dict(absent),
            rewards=rewards,
        )

    @classmethod
    def unchanged(
        cls,
        *,
        round_number: int,
        parent_round: int,
        rule: str,
        state: AggregationState,
        adapter: Arrays,
        rewards: RewardTable,
    ) -> "RoundOutcome":
        """Return the outcome of a round in which nobody took part."""
        return cls.of(
            round_number=round_number,
            parent_round=parent_round,
            rule=rule,
            parent=hash_arrays(adapter),
            state=state,
            adapter=adapter,
            rewards=rewards,
            entries=(),
            absent={},
        )

    @property
    def invited(self) -> bool:
        """Whether anybody was asked to train: not where it only sealed what was earned before."""
        return bool(self.entries or self.absent)

    def manifest(self, task: bytes) -> dict[str, Any]:
        """Return the manifest, canonically encodable."""
        return {
            "version": MANIFEST_VERSION,
            "task": task.hex(),
            "round": self.round,
            "parent-round": self.parent_round,
            "rule": self.rule,
            "parent": self.parent.hex(),
            "adapter": self.adapter.hex(),
            "state": self.state.hex(),
            "updates": [entry.to_json() for entry in self.entries],
            "absent": dict(self.absent),
            "rewards": self.rewards.to_json(),
            "files": dict(self.files),
        }

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> "RoundOutcome":
        """Read a manifest of this version back.

        Raises
        ------
        ValueError
            If it lacks a field or a field does not have its type.
        """
        try:
            if manifest["version"] != MANIFEST_VERSION:
                raise ValueError(
                    f"manifest version {manifest['version']!r}, expected {MANIFEST_VERSION}"
                )
            return cls(
                round=int(manifest["round"]),
                parent_round=int(manifest["parent-round"]),
                rule=str(manifest["rule"]),
                parent=bytes.fromhex(manifest["parent"]),
                adapter=bytes.fromhex(manifest["adapter"]),
                state=bytes.fromhex(manifest["state"]),
                entries=tuple(Entry.from_json(entry) for entry in manifest["updates"]),
                absent={str(k): str(v) for k, v in manifest["absent"].items()},
                rewards=RewardTable.from_json(manifest["rewards"]),
                files={str(k): str(v) for k, v in manifest["files"].items()},
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"the manifest is malformed: {error}") from error

    def manifest_hash(self, task: bytes) -> bytes:
        """Return the hash of the manifest's canonical encoding."""
        return hash_json(self.manifest(task))

    def seal(self, task: bytes) -> Seal:
        """Return what the round is sealed with."""
        leaves = self.leaves()
        return Seal(
            updates_root=root(leaves),
            leaf_count=len(leaves),
            adapter_hash=self.adapter,
            manifest_hash=self.manifest_hash(task),
            rewards_root=self.rewards.root(),
            rewards_total=self.rewards.total,
        )

    def leaves(self) -> list[Leaf]:
        """Return the Merkle leaves: one for each signed update."""
        return [
            Leaf(digest=entry.digest, index=index, verdict=entry.verdict)
            for index, entry in enumerate(self.entries)
        ]
