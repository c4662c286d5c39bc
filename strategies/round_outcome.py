"""What a round came to: the manifest that its seal commits to, and the leaves under its root."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from blockchain.canonical import hash_arrays, hash_json
from blockchain.merkle import Leaf, organization_id
from llm.factors import Arrays
from strategies.aggregation import AggregationState
from strategies.replies import CheckedReply, Verdict

MANIFEST_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One organization's line in a manifest.

    Parameters
    ----------
    organization : str
        Its name.
    verdict : int
        Code of :class:`strategies.replies.Verdict`.
    update_hash : bytes
        Canonical hash of the update, 32 bytes.
    num_examples : int
        Records used.
    weight : float
        Its share in the aggregate; 0 unless accepted.
    """

    organization: str
    verdict: int
    update_hash: bytes
    num_examples: int
    weight: float

    def to_json(self) -> dict[str, Any]:
        """Lay the entry out for the manifest; a float's hexadecimal form is exact."""
        return {
            "organization": self.organization,
            "verdict": self.verdict,
            "update": self.update_hash.hex(),
            "examples": self.num_examples,
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
            update_hash=bytes.fromhex(entry["update"]),
            num_examples=int(entry["examples"]),
            weight=weight,
        )


@dataclass(frozen=True)
class RoundOutcome:
    """A finished round, before its seal.

    Parameters
    ----------
    round : int
        The round.
    rule : str
        Name of the aggregation rule.
    parent, adapter : bytes
        Canonical hashes of the global adapter before and after.
    state : bytes
        Canonical hash of the rule's state after the round.
    entries : tuple of Entry
        One for each organization that replied, sorted by name; an entry's position is its leaf's.
    absent : mapping of str to str
        Who did not reply, and why: ``late`` or ``failed``.
    files : mapping of str to str
        SHA-256 of every file of adapter and state as stored, hexadecimal by relative path.
    """

    round: int
    rule: str
    parent: bytes
    adapter: bytes
    state: bytes
    entries: tuple[Entry, ...]
    absent: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        *,
        round_number: int,
        rule: str,
        parent: bytes,
        state: AggregationState,
        adapter: Arrays,
        replies: Iterable[CheckedReply],
        weights: Mapping[str, float],
        absent: Mapping[str, str],
    ) -> "RoundOutcome":
        """Put together what a round came to."""
        entries = (
            Entry(
                organization=reply.organization,
                verdict=int(reply.verdict),
                update_hash=reply.update_hash,
                num_examples=reply.num_examples,
                weight=weights.get(reply.organization, 0.0),
            )
            for reply in replies
        )
        return cls(
            round=round_number,
            rule=rule,
            parent=parent,
            adapter=hash_arrays(adapter),
            state=hash_arrays(state.to_arrays()),
            entries=tuple(sorted(entries, key=lambda entry: entry.organization)),
            absent=dict(absent),
        )

    @classmethod
    def unchanged(
        cls, *, round_number: int, rule: str, state: AggregationState, adapter: Arrays
    ) -> "RoundOutcome":
        """Return the outcome of a round in which nobody took part."""
        return cls.of(
            round_number=round_number,
            rule=rule,
            parent=hash_arrays(adapter),
            state=state,
            adapter=adapter,
            replies=(),
            weights={},
            absent={},
        )

    def manifest(self, task: bytes) -> dict[str, Any]:
        """Return the manifest, canonically encodable."""
        return {
            "version": MANIFEST_VERSION,
            "task": task.hex(),
            "round": self.round,
            "rule": self.rule,
            "parent": self.parent.hex(),
            "adapter": self.adapter.hex(),
            "state": self.state.hex(),
            "updates": [entry.to_json() for entry in self.entries],
            "absent": dict(self.absent),
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
                rule=str(manifest["rule"]),
                parent=bytes.fromhex(manifest["parent"]),
                adapter=bytes.fromhex(manifest["adapter"]),
                state=bytes.fromhex(manifest["state"]),
                entries=tuple(Entry.from_json(entry) for entry in manifest["updates"]),
                absent={str(k): str(v) for k, v in manifest["absent"].items()},
                files={str(k): str(v) for k, v in manifest["files"].items()},
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"the manifest is malformed: {error}") from error

    def manifest_hash(self, task: bytes) -> bytes:
        """Return the hash of the manifest's canonical encoding."""
        return hash_json(self.manifest(task))

    def leaves(self, task: bytes) -> list[Leaf]:
        """Return the Merkle leaves: one for each organization that replied."""
        return [
            Leaf(
                task=task,
                round=self.round,
                index=index,
                organization=organization_id(entry.organization),
                verdict=entry.verdict,
                update_hash=entry.update_hash,
            )
            for index, entry in enumerate(self.entries)
        ]
