"""Which rounds a request to forget is about: what the one that asked says of it, and signs."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from eth_account.signers.local import LocalAccount

from blockchain.merkle import check_hash
from blockchain.typed_data import Domain, check_integer, check_signer, digest, sign_digest

_FIELDS: Final = (
    "(bytes32 id,bytes32 task,bytes32 organization,uint64 firstAffectedRound,uint64 affectedRounds)"
)

Method = Literal["exact", "fast"]

#: Like what the contract knows, and under its domain; only those who check a receipt read it. Each
#: way to forget has a type of its own: what was signed for one cannot pass for the other.
PLAN_TYPES: Final[dict[Method, str]] = {
    "exact": f"ReplayPlan{_FIELDS}",
    "fast": f"FastPlan{_FIELDS}",
}

_MOST_ROUNDS: Final = 10_000


@dataclass(frozen=True)
class ReplayPlan:
    """The rounds of a run that drew what is to be forgotten.

    Nobody but the organization knows which records a round drew. What it says here decides from
    where the run is made again, and an auditor who is shown its private ledger can check it.

    Parameters
    ----------
    id : bytes
        Id of the request, 32 bytes.
    task : bytes
        Task of the run as it stands, 32 bytes.
    organization : bytes
        Who asked, 32 bytes.
    rounds : tuple of int
        Logical rounds (:mod:`strategies.lineage`) that the data had a part in, ascending; empty
        where it had a part in none.
    method : {"exact", "fast"}
        How it is to be forgotten: by making the rounds again, or by training.

    Raises
    ------
    ValueError
        If a hash has another size, or the rounds are not ascending from 1.
    """

    id: bytes
    task: bytes
    organization: bytes
    rounds: tuple[int, ...]
    method: Method = "exact"

    def __post_init__(self) -> None:
        for name in ("id", "task", "organization"):
            check_hash(getattr(self, name), name)
        if list(self.rounds) != sorted(set(self.rounds)) or len(self.rounds) > _MOST_ROUNDS:
            raise ValueError(f"rounds: {self.rounds[:8]}, expected them ascending, none twice")
        if self.rounds and check_integer("rounds", self.rounds[0], 32) < 1:
            raise ValueError("rounds: expected them from 1")

    @property
    def first(self) -> int:
        """The first affected round; 0 where there is none."""
        return self.rounds[0] if self.rounds else 0

    def digest(self, domain: Domain) -> bytes:
        """Return what the organization signs, 32 bytes; the first round is what decides."""
        values = {
            "id": self.id,
            "task": self.task,
            "organization": self.organization,
            "firstAffectedRound": self.first,
            "affectedRounds": len(self.rounds),
        }
        return digest(domain, PLAN_TYPES[self.method], values)

    def to_json(self) -> dict[str, Any]:
        """Lay the plan out, canonically encodable."""
        return {
            "id": self.id.hex(),
            "task": self.task.hex(),
            "organization": self.organization.hex(),
            "rounds": list(self.rounds),
            **({} if self.method == "exact" else {"method": self.method}),
        }

    @classmethod
    def from_json(cls, entry: Any) -> "ReplayPlan":
        """Read a plan back, strictly.

        Raises
        ------
        ValueError
            If it is none.
        """
        names = ("id", "task", "organization")
        if not isinstance(entry, dict) or entry.keys() - {"method"} != {*names, "rounds"}:
            raise ValueError("a plan of what is to be forgotten: expected its four fields")
        rounds, method = entry["rounds"], entry.get("method", "exact")
        if "method" in entry and method != "fast":
            raise ValueError(f"method: {method!r:.20}, expected 'fast' where it is named")
        if not isinstance(rounds, list) or not all(type(one) is int for one in rounds):
            raise ValueError("rounds: expected a list of whole numbers")
        try:
            hashes = {name: bytes.fromhex(entry[name]) for name in names}
        except TypeError as error:
            raise ValueError(f"a plan of what is to be forgotten: {error}") from error
        return cls(**hashes, rounds=tuple(rounds), method=method)


@dataclass(frozen=True)
class SignedPlan:
    """A plan, and the organization's signature of it (65 bytes)."""

    plan: ReplayPlan
    signature: bytes

    @classmethod
    def of(cls, plan: ReplayPlan, account: LocalAccount, domain: Domain) -> "SignedPlan":
        """Sign a plan."""
        return cls(plan, sign_digest(plan.digest(domain), account))

    def check(self, domain: Domain, *keys: str) -> None:
        """Make sure that one of the keys signed it; `SignatureError` otherwise."""
        check_signer(self.plan.digest(domain), self.signature, *keys)

    def to_json(self) -> dict[str, Any]:
        """Lay it out, canonically encodable."""
        return {"plan": self.plan.to_json(), "signature": self.signature.hex()}

    @classmethod
    def from_json(cls, entry: Any) -> "SignedPlan":
        """Read it back, strictly; `ValueError` if it is none."""
        whole = isinstance(entry, dict) and entry.keys() == {"plan", "signature"}
        if not whole or not isinstance(entry["signature"], str):
            raise ValueError("a signed plan: expected plan, and signature in hexadecimal")
        return cls(ReplayPlan.from_json(entry["plan"]), bytes.fromhex(entry["signature"]))
