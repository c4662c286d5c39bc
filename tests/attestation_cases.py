"""Rounds of the small federation attested by organizations that signed made-up scores."""

from typing import Any

from blockchain.typed_data import sign_digest
from strategies.attesting import attestation_of
from strategies.round_outcome import RoundOutcome
from strategies.scores import ScoreTable
from tests.signing_cases import account_of

#: Attestors of `tests.chain_samples.founding_of` for the small federation alone.
ATTESTORS = ("east", "north")


def attest(
    federation: Any,
    round_number: int,
    scores: dict[str, int] | None = None,
    attestors: tuple[str, ...] = ATTESTORS,
) -> ScoreTable:
    """Have a sealed round attested on the chain and noted in the archive."""
    table = ScoreTable.of(
        scores or {"east": 1000, "north": 500, "south": 0, "west": 250},
        task=federation.task,
        round=round_number,
        validation=bytes(32),
        method="leave-one-out",
    )
    outcome = RoundOutcome.from_manifest(federation.archive.manifest(round_number))
    signatures = {
        name: sign_digest(
            attestation_of(outcome, federation.task, name, table).digest(federation.context.domain),
            account_of(name),
        )
        for name in attestors
    }
    landed = federation.notary.attest(outcome, table, signatures)
    federation.archive.write_attestation(round_number, table, signatures, landed)
    return table
