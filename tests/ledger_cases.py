"""Private ledgers for the tests: members, a valid sample of every type of record."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from eth_account.signers.local import LocalAccount

from blockchain.canonical import canonical_float
from blockchain.merkle import organization_id
from blockchain.private.agent_records import (
    AgentDecision,
    AgentFounding,
    AgentParameters,
    AgentReward,
)
from blockchain.private.drafts import Draft
from blockchain.private.encoding import member_of
from blockchain.private.founding import found
from blockchain.private.ledger import Ledger
from blockchain.private.record_fields import Part
from blockchain.private.record_types import (
    ReceiptVerification,
    Role,
    TrainingRun,
    UnlearningEvidence,
    UnlearningRequest,
)
from tests.signing_cases import account_of

#: Operator and trainer: the organization's own key, to whose address its ledger is bound.
OPERATOR: Final = account_of("shop")
OFFICER: Final = account_of("officer")
AUDITOR: Final = account_of("auditor")
STRANGER: Final = account_of("stranger")


def digest(text: str) -> str:
    """32 bytes, in hexadecimal, that stand for a hash of something."""
    return hashlib.sha256(text.encode()).hexdigest()


def training_run(round_number: int = 1, **changes: Any) -> TrainingRun:
    """What was trained in a round."""
    values: dict[str, Any] = {
        "task": digest("task"),
        "run": "20260101-000000",
        "round": round_number,
        "configuration": {"rank": 16, "learning-rate": canonical_float(1e-3), "schedule": "cosine"},
        "seed": 42,
        "data_set": 1,
        "drawn": (0, 2, 3),
        "parent": digest("parent"),
        "update": digest(f"update {round_number}"),
        "commitment": digest("commitment"),
        "records": 3,
        "tokens": 512,
        "steps": 1,
        "seconds": canonical_float(12.5),
        "first_loss": canonical_float(1.5),
        "last_loss": canonical_float(0.5),
    }
    return TrainingRun(**{**values, **changes})


def evidence(name: str = "request") -> UnlearningEvidence:
    """What was done about a request: needs operator and officer."""
    return UnlearningEvidence(
        request=digest(name),
        label="EMPIRICAL",
        figures={"forget-loss": canonical_float(2.5)},
        artifacts={"adapter": digest("adapter")},
    )


def payload_samples() -> Mapping[str, Part]:
    """One valid payload of each type that stands by itself."""
    samples: tuple[Part, ...] = (
        training_run(),
        AgentDecision(
            task=digest("task"),
            round=1,
            rounds=6,
            mode="learn",
            state=(2, 1, 0, 1),
            actions=("skip", "low", "mid", "high"),
            costs=(0, 1024, 2048, 4096),
            price="10000000000",
            permitted=(True, True, True, False),
            probabilities=tuple(canonical_float(p) for p in (0.05, 0.9, 0.05, 0.0)),
            action=1,
            tables=digest("tables"),
            founding=AgentFounding(
                fingerprint=digest("space"),
                shape=(1, 2),
                parameters=AgentParameters(
                    discount=canonical_float(0.9),
                    learning_rate_floor=canonical_float(0.05),
                    learning_rate_power=canonical_float(0.8),
                    exploration_start=canonical_float(1.0),
                    exploration_end=canonical_float(0.05),
                    exploration_steps=100,
                    optimism=canonical_float(1.0),
                ),
                seed=digest("seed"),
                tables=(canonical_float(0.5),) * 16,
                visits=(1,) * 16,
            ),
        ),
        AgentReward(
            decision=1, paid="1000000", cost=512, failed=False, reward=canonical_float(0.25)
        ),
        ReceiptVerification(
            task=digest("task"),
            round=1,
            index=0,
            verdict=0,
            digest=digest("signed"),
            proof=(digest("sibling"),),
            transaction="0x" + digest("transaction"),
            coordinator=STRANGER.address,
            signature="ab" * 65,
            included=True,
            chain_id=31337,
            height=12,
            block=digest("block"),
        ),
        UnlearningRequest(
            request=digest("request"),
            scope="records",
            method="exact",
            positions=(1, 5),
            salt=digest("salt"),
            deadline=2_000_000_000,
        ),
        evidence(),
    )
    return {sample.record_type: sample for sample in samples}


def found_ledger(folder: Path, operator: LocalAccount = OPERATOR, name: str = "shop") -> Path:
    """Begin a ledger with an operator, who also trains, and an officer."""
    found(folder, organization_id(name), operator, [member_of(OFFICER, Role.OFFICER)])
    return folder


def filled_ledger(folder: Path, rounds: int = 3) -> Path:
    """A ledger with some training runs in a block each."""
    with Ledger(found_ledger(folder), OPERATOR) as ledger:
        for number in range(1, rounds + 1):
            ledger.append(Draft(payload=training_run(number)))
    return folder
