"""Evidence: what one model says of the forget set, the retain set and the hold-out set."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.records import Record
from unlearning.verification.token_statistics import (
    TokenStatistics,
    VerificationError,
    gather_statistics,
)

SetName = Literal["forget", "retain", "hold_out"]
SETS: Final[tuple[SetName, ...]] = get_args(SetName)


@dataclass(frozen=True, eq=False)
class RecordEvidence:
    """What is known of one record.

    Parameters
    ----------
    statistics : TokenStatistics
        Under the model in question.
    compressed_bytes : int
        Size of the completion's text under zlib, at its default level.
    reference : TokenStatistics, optional
        Under the untouched base.
    """

    statistics: TokenStatistics
    compressed_bytes: int
    reference: TokenStatistics | None = None


#: Evidence of a set's records, by record id.
EvidenceById = Mapping[str, RecordEvidence]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one model says of three sets of records.

    Parameters
    ----------
    forget : mapping of str to RecordEvidence
        Records that were to be forgotten.
    retain : mapping of str to RecordEvidence, optional
        Records by which utility is judged: trained on and kept, or never seen.
    hold_out : mapping of str to RecordEvidence, optional
        Records like those of the forget set that no model ever saw.

    Raises
    ------
    VerificationError
        If a record is in two of the sets.
    """

    forget: EvidenceById
    retain: EvidenceById = field(default_factory=dict)
    hold_out: EvidenceById = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: dict[str, SetName] = {}
        for name in SETS:
            for identifier in self.of(name):
                if identifier in seen:
                    raise VerificationError(
                        f"record {identifier} is in the {seen[identifier]} set and in the {name} "
                        "set: expected sets without a common record"
                    )
                seen[identifier] = name

    def of(self, name: SetName) -> EvidenceById:
        """Return one of the sets."""
        return {"forget": self.forget, "retain": self.retain, "hold_out": self.hold_out}[name]


def gather_evidence(
    base: BaseModel,
    adapter: LoraAdapter | None,
    *,
    forget: Sequence[Record],
    retain: Sequence[Record] = (),
    hold_out: Sequence[Record] = (),
    reference: Mapping[str, TokenStatistics] | None = None,
    max_tokens: int = 512,
) -> Evidence:
    """Read the three sets under a model, in one pass.

    Parameters
    ----------
    base : BaseModel
        The base; unchanged afterwards.
    adapter : LoraAdapter or None
        The model in question; None for the base itself.
    forget, retain, hold_out : sequence of Record
        See :class:`Evidence`.
    reference : mapping of str to TokenStatistics, optional
        The same records under the untouched base, from :func:`gather_statistics`: the same for
        every model, so it is read once.
    max_tokens : int, optional
        Longest record; a longer one's prompt loses its beginning.

    Raises
    ------
    VerificationError
        If there are no records, ids repeat, or a statistic is not finite.
    """
    records = [*forget, *retain, *hold_out]
    statistics = gather_statistics(base, records, adapter, max_tokens=max_tokens)
    return assemble_evidence(
        statistics, forget=forget, retain=retain, hold_out=hold_out, reference=reference
    )


def assemble_evidence(
    statistics: Mapping[str, TokenStatistics],
    *,
    forget: Sequence[Record],
    retain: Sequence[Record] = (),
    hold_out: Sequence[Record] = (),
    reference: Mapping[str, TokenStatistics] | None = None,
) -> Evidence:
    """Sort statistics by set; the parameters are those of :func:`gather_evidence`."""
    known = reference or {}

    def rows(records: Sequence[Record]) -> Iterator[tuple[str, RecordEvidence]]:
        for record in records:
            compressed = len(zlib.compress(record.completion.encode()))
            yield (
                record.id,
                RecordEvidence(statistics[record.id], compressed, known.get(record.id)),
            )

    return Evidence(dict(rows(forget)), dict(rows(retain)), dict(rows(hold_out)))
