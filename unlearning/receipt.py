"""The receipt of a request to forget: what was done, what it was measured to do, and who says so.

Its evidence is one document. Attestors check it and sign its hash, and the contract keeps that. A
receipt claims what its label says, never more: ``EXACT_REPLAY`` is the state that would have been
reached had the data never existed, given when replies came; ``EMPIRICAL`` what was measured, and no
more; ``EXACT_ISOLATED`` that the data never reached another organization's adapter, and the one it
made is left away; ``NOTHING_TO_FORGET`` that no round drew it.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blockchain.canonical import canonical_json, hash_json
from blockchain.unlearning_messages import Completion, Guarantee
from llm.json_nesting import check_nesting
from unlearning.replay_plan import SignedPlan

RECEIPT_VERSION: Final = 1

#: What stands for the model retrained without the data, where nobody trained one to compare with.
NO_REFERENCE: Final = "none trained"

Label = Literal["EXACT_ISOLATED", "EXACT_REPLAY", "EMPIRICAL", "NOTHING_TO_FORGET"]

#: What a label is on the chain.
GUARANTEES: Final[Mapping[str, Guarantee]] = {
    "EXACT_ISOLATED": Guarantee.EXACT_ISOLATED,
    "EXACT_REPLAY": Guarantee.EXACT_REPLAY,
    "EMPIRICAL": Guarantee.EMPIRICAL,
    "NOTHING_TO_FORGET": Guarantee.NOTHING_TO_FORGET,
}

#: What a label means, for people.
MEANINGS: Final[Mapping[str, str]] = {
    "EXACT_ISOLATED": "the organization's adapter was its own, made of its data alone, and is left "
    "away from the sum that is served; no other adapter, decision or weight depends on it",
    "EXACT_REPLAY": "every round from the first affected one on was made again without the data; "
    "the adapter is the one that would have come of it had the data never existed, given whose "
    "replies came in which round",
    "EMPIRICAL": "the model was trained to forget the data, and trained on without it; how far it "
    "has on these tests was measured, before and after, and nothing is shown beyond them",
    "NOTHING_TO_FORGET": "no round drew the data: the adapter stays as it is, and the data is "
    "barred from every later round",
}

_MAX_BYTES: Final = 1 << 22

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[int, Field(ge=0, lt=2**53)]
Text = Annotated[str, Field(max_length=200)]
Real = Annotated[str, Field(max_length=32, pattern=r"^-?0x[01]\.[0-9a-f]+p[+-][0-9]+$")]


class ReceiptError(ValueError):
    """A receipt is malformed, or does not hold; one line says where."""


class _Part(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True)


class Asked(_Part):
    """The request, as it stands on the chain."""

    id: Hash
    task: Hash
    organization: Text
    scope: Literal["records", "organization"]
    subject: Hash
    deadline: Number


class Place(_Part):
    """A round of a task, and the hash of the global adapter after it; round 0 is the start."""

    run: Text
    task: Hash
    round: Number
    adapter: Hash


class Measured(_Part):
    """One figure before and after, on so many rows that were never trained on."""

    organization: Text
    name: Text
    rows: Number
    before: Real | None
    after: Real | None


class Purged(_Part):
    """What a coordinator deleted of a run: everything of the rounds from one on that held data.

    Of the run that unlearned by training that ends with the last round in which it did.
    """

    run: Text
    first_round: Number
    files: Number
    bytes: Number


class Evidence(_Part):
    """What attestors vouch for.

    Parameters
    ----------
    request : Asked
        What was asked.
    label : str
        What is claimed.
    rounds : list of int
        Logical rounds that the data had a part in.
    plan : dict or None
        What the organization signed about that (`unlearning.replay_plan.SignedPlan`); none where
        the manifests say it, of a whole organization.
    before, after : Place
        The run as it was, and as it is now.
    lineage : str
        Which rounds the run that is used now kept.
    terms : str
        Hash of its terms, configuration included, 32 bytes.
    code : str
        Hash of the program's sources, 32 bytes.
    seed : int
        The run's.
    metrics : list of Measured
        On the organizations' test rows; where it was unlearned by training, on the data itself.
    reference : str
        The retrained model that it was compared with.
    purged : list of Purged
        What the coordinator deleted; organizations delete their own once they have the receipt.
    backups_until : str
        Day on which the coordinator's last backup of it is gone, as it says.
    """

    version: Literal[1]
    request: Asked
    label: Label
    rounds: list[Number]
    plan: dict[str, Any] | None
    before: Place
    after: Place
    lineage: Annotated[str, Field(max_length=10_000)]
    terms: Hash
    code: Hash
    seed: Number
    metrics: list[Measured]
    reference: Text
    purged: list[Purged]
    backups_until: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]

    def hash(self) -> bytes:
        """Return the hash of the canonical encoding, 32 bytes: what attestors sign."""
        return hash_json(self.model_dump(mode="json"))

    def signed_plan(self) -> SignedPlan | None:
        """Return what the organization signed; `ReceiptError` if it is malformed."""
        if self.plan is None:
            return None
        try:
            return SignedPlan.from_json(self.plan)
        except ValueError as error:
            raise ReceiptError(f"plan: {error}") from error

    def completion(self, first_affected: int) -> Completion:
        """Return what goes on the chain.

        Parameters
        ----------
        first_affected : int
            First affected round of the request's own task; 0 where nothing was to forget.
        """
        return Completion(
            evidence_root=self.hash(),
            adapter=bytes.fromhex(self.after.adapter),
            first_affected_round=first_affected,
            guarantee=GUARANTEES[self.label],
        )


class Receipt(_Part):
    """Evidence, and what stands on the chain about it.

    Parameters
    ----------
    evidence : Evidence
        The document.
    first_affected : int
        First affected round of the request's own task; 0 where nothing was to forget.
    approvals : dict of str to str
        Attestors' signatures of the completion, hexadecimal, by name.
    transaction : str
        Hash of the transaction that completed the request, hexadecimal; empty where another one
        than ours did.
    """

    evidence: Evidence
    first_affected: Number
    approvals: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{130}$")]]
    transaction: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]

    def to_bytes(self) -> bytes:
        """Encode it canonically."""
        return canonical_json(self.model_dump(mode="json"))


def read_evidence(content: bytes) -> Evidence:
    """Read evidence strictly.

    Raises
    ------
    ReceiptError
        If it is malformed.
    """
    evidence: Evidence = _read(Evidence, content)
    return evidence


def read_receipt(content: bytes) -> Receipt:
    """Read a receipt strictly; `ReceiptError` if it is malformed."""
    receipt: Receipt = _read(Receipt, content)
    return receipt


def _read(model: type[Any], content: bytes) -> Any:
    if len(content) > _MAX_BYTES:
        raise ReceiptError(f"{len(content):,} bytes, expected at most {_MAX_BYTES:,}")
    try:
        text = content.decode("utf-8")
        check_nesting(text)
        return model.model_validate(json.loads(text))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])[:80]
        raise ReceiptError(f"{where}: {first['msg']}") from None
    except ValueError as error:
        raise ReceiptError(f"not readable JSON: {error}") from error
